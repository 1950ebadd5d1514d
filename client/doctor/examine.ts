import { setTimeout as delay } from 'node:timers/promises';
import type { Finding } from '../../diagnostics/finding.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { failed, unchecked } from './check.ts';
import type { Check, Facts, Outcome, DoctorContext } from './check.ts';
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
import { timeLimit } from '../../stream/time-limit.ts';

/** The path, in the order in which a connection takes it. */
const path: readonly Check[] = [
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

/** What ssh works without. */
const measurements: readonly Check[] = [clock, halfClose, headers, latency, throughput, idle];

/** All checks but the one that takes minutes. */
const totalMs = 30_000;

/** Why a check does not run: what it needs is missing because of this one. */
const providers: Readonly<Record<keyof Facts, string>> = {
  way: 'the way out',
  addresses: 'the name',
  isReached: 'the connection',
  reachedMs: 'the connection',
  isConnected: 'TLS',
  page: 'HTTP',
  gateway: 'the gateway',
  access: 'the sign-in',
  probes: 'a way in',
  entry: 'a way in',
  isDialled: 'the target',
  isSsh: 'the SSH server',
  roundTripMs: 'the end of input',
};

/**
 * Runs the checks, each with what the ones before have found, and tells each finding when it is there. After `signal`
 * the rest is told as unchecked. Never rejects.
 */
export async function runChecks(
  place: DoctorContext,
  signal: AbortSignal,
  tell: (finding: Finding) => void,
): Promise<readonly Finding[]> {
  const hurried = timeLimit(signal, totalMs);
  const findings: Finding[] = [];
  let found: Partial<Facts> = {};
  // The limits do not keep the process alive, and what is waited for may not either.
  const alive = setInterval(() => {}, totalMs);
  for (const each of [...path, ...measurements]) {
    const limit = each === idle ? signal : hurried;
    const outcome = await runCheck(each, { found, place, limit, isStopped: () => signal.aborted });
    found = { ...found, ...outcome.found };
    for (const finding of outcome.findings) {
      findings.push(finding);
      tell(finding);
    }
  }
  clearInterval(alive);
  return findings;
}

interface Circumstances {
  readonly found: Partial<Facts>;
  readonly place: DoctorContext;
  readonly limit: AbortSignal;
  readonly isStopped: () => boolean;
}

async function runCheck(each: Check, { found, place, limit, isStopped }: Circumstances): Promise<Outcome> {
  const speaker = { check: each.name, title: each.title };
  const stopped = (): Outcome => ({
    findings: [unchecked(speaker, isStopped() ? 'you stopped it' : 'the 30 seconds for all of it were over')],
  });
  if (limit.aborted) return stopped();
  const missing = each.needs.find((need) => found[need] === undefined);
  if (missing !== undefined) return { findings: [unchecked(speaker, `${providers[missing]} comes first`)] };
  const own = timeLimit(limit, each.limitMs);
  try {
    const settled = await Promise.race([each.run(found, place, own), afterwards(own)]);
    // What fails because it was stopped says nothing.
    const isTelling = settled?.findings.every(({ verdict }) => verdict !== 'failed') === true;
    if (limit.aborted && !isTelling) return stopped();
    return settled ?? tooLate(each);
  } catch (error) {
    if (limit.aborted) return stopped();
    const failure = toFailure(error);
    const finding = measurements.includes(each)
      ? unchecked(speaker, failure.message)
      : failed(speaker, failure);
    return { findings: [finding] };
  }
}

/** A check that has been told to stop has a moment to say what it knows. */
async function afterwards(signal: AbortSignal): Promise<undefined> {
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  return delay(graceMs, undefined, { ref: false });
}

const graceMs = 500;

function tooLate(each: Check): Outcome {
  const speaker = { check: each.name, title: each.title };
  const what = `no answer within ${each.limitMs / 1000} s`;
  if (measurements.includes(each)) return { findings: [unchecked(speaker, what)] };
  return {
    findings: [
      failed(speaker, new ClientError('GATEWAY_TIMEOUT', what), {
        meaning: 'somebody on the way takes what is sent and says nothing.',
        advice: 'try again in a minute; then tell those who run the gateway.',
      }),
    ],
  };
}
