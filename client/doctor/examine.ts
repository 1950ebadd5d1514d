import type { Finding } from '../../diagnostics/finding.ts';
import { idOf, runChecks } from '../../diagnostics/run-checks.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { failed, skip } from './check.ts';
import type { ClientCheck, ClientDoctorContext, ClientFacts } from './check.ts';
import { clock } from './clock.ts';
import { connection } from './connection.ts';
import { entries } from './entries.ts';
import { gateway } from './gateway.ts';
import { sshBanner } from './greeting.ts';
import { halfClose } from './half-close.ts';
import { headers } from './headers.ts';
import { idle } from './idle.ts';
import { latency } from './latency.ts';
import { name } from './name.ts';
import { tls } from './tls.ts';
import { policy } from './policy.ts';
import { signIn } from './sign-in.ts';
import { target } from './target.ts';
import { throughput } from './throughput.ts';
import { egress } from './egress.ts';
import { web } from './web.ts';

/** The path, in the order in which a connection takes it. */
const path: readonly ClientCheck[] = [
  egress,
  name,
  connection,
  tls,
  web,
  gateway,
  signIn,
  entries,
  policy,
  target,
  sshBanner,
];

/** Measurements, without which ssh works. */
const measurements: readonly ClientCheck[] = [clock, halfClose, headers, latency, throughput, idle];

/** All checks but the one that takes minutes. */
const totalMs = 30_000;

/** What provides each fact, as the reason why a check that needs it is skipped. */
const providers: Readonly<Record<keyof ClientFacts, string>> = {
  route: 'the route',
  addresses: 'the name',
  isReached: 'the connection',
  reachedMs: 'the connection',
  isConnected: 'TLS',
  page: 'HTTP',
  gateway: 'the gateway',
  access: 'the sign-in',
  probes: 'an entry',
  entry: 'an entry',
  isDialled: 'the target',
  isSsh: 'the SSH server',
  roundTripMs: 'the end of input',
};

/** Examines the path from here to the gateway and the target. Calls `onFinding` with each finding. Never rejects. */
export function examine(
  context: ClientDoctorContext,
  signal: AbortSignal,
  onFinding: (finding: Finding) => void,
): Promise<readonly Finding[]> {
  return runChecks([...path, ...measurements], {
    context,
    signal,
    onFinding,
    providers,
    total: { ms: totalMs, unlimited: idle },
    onError(check, error) {
      const failure = toFailure(error);
      return isMeasurement(check) ? skip(idOf(check), failure.message) : failed(idOf(check), failure);
    },
    onTimeout(check) {
      const what = `no answer within ${check.limitMs / 1000} s`;
      if (isMeasurement(check)) return skip(idOf(check), what);
      return failed(idOf(check), new ClientError('GATEWAY_TIMEOUT', what), {
        meaning: 'an intermediary accepts the connection but never answers.',
        advice: 'try again in a minute; if it persists, contact the operators of the gateway.',
      });
    },
  });
}

function isMeasurement(check: ClientCheck): boolean {
  return measurements.includes(check);
}
