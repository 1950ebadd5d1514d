import type { Finding } from '../../diagnostics/finding.ts';
import { idOf, runChecks } from '../../diagnostics/run-checks.ts';
import { address } from './address.ts';
import { admin } from './admin.ts';
import type { GatewayCheck, GatewayDoctorContext, GatewayFacts } from './check.ts';
import { connection, name, tls } from './reachability.ts';
import { halfClose } from './half-close.ts';
import { headers } from './headers.ts';
import { idle } from './idle.ts';
import { prefix } from './prefix.ts';
import { running } from './running.ts';
import { streaming } from './streaming.ts';
import { tunnel } from './tunnel.ts';
import { upgrades } from './upgrades.ts';

/** From the outside in. */
const checks: readonly GatewayCheck[] = [
  running,
  name,
  connection,
  tls,
  prefix,
  upgrades,
  address,
  headers,
  streaming,
  halfClose,
  idle,
  tunnel,
  admin,
];

/** What provides each fact, as the reason why a check that needs it is skipped. */
const providers: Readonly<Record<keyof GatewayFacts, string>> = {
  isRunning: running.title,
  addresses: name.title,
  isConnected: connection.title,
  isSecure: tls.title,
  isForwarded: prefix.title,
  front: prefix.title,
  passing: upgrades.title,
};

/** Examines the gateway from outside. Calls `onFinding` with each finding. Never rejects. */
export function examine(
  context: GatewayDoctorContext,
  signal: AbortSignal,
  onFinding: (finding: Finding) => void,
): Promise<readonly Finding[]> {
  return runChecks(checks, {
    context,
    signal,
    onFinding,
    providers,
    onError: (check, error, isTimedOut) =>
      isTimedOut ? noAnswer(check) : brokenConnection(check, error as NodeJS.ErrnoException),
    onTimeout: noAnswer,
  });
}

function brokenConnection(check: GatewayCheck, { code, message }: NodeJS.ErrnoException): Finding {
  return {
    ...idOf(check),
    status: 'error',
    what: `the connection breaks (${code ?? message})`,
    meaning: 'the web server closes the connection without a response, or its response is not HTTP.',
    advice: 'see its error log for the reason.',
  };
}

function noAnswer(check: GatewayCheck): Finding {
  return {
    ...idOf(check),
    status: 'error',
    what: `no answer within ${check.limitMs / 1000} s`,
    meaning: 'the web server, or the gateway behind it, is stuck, or a firewall drops packets.',
    advice: 'check whether it answers on this machine, then see its error log.',
  };
}
