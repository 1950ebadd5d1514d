import type { Finding } from '../../diagnostics/finding.ts';
import { timeLimit } from '../../stream/time-limit.ts';
import { address } from './address.ts';
import { admin } from './admin.ts';
import { finding, unchecked } from './check.ts';
import type { Check, Facts, Outcome, DoctorContext } from './check.ts';
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
const checks: readonly Check[] = [
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

/** Which check brings what others need. */
const providers: Readonly<Record<keyof Facts, Check>> = {
  isRunning: running,
  addresses: name,
  isConnected: connection,
  isSecure: tls,
  isForwarded: prefix,
  front: prefix,
  passing: upgrades,
};

/** Runs the checks in turn and tells each finding when it is there; after `signal`, that the rest was not checked. */
export async function runChecks(
  place: DoctorContext,
  signal: AbortSignal,
  tell: (finding: Finding) => void,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  let found: Partial<Facts> = {};
  for (const check of checks) {
    const outcome = await runCheck(check, { found, place, signal });
    found = { ...found, ...outcome.found };
    findings.push(...outcome.findings);
    for (const finding of outcome.findings) tell(finding);
  }
  return findings;
}

async function runCheck(
  check: Check,
  {
    found,
    place,
    signal,
  }: { readonly found: Partial<Facts>; readonly place: DoctorContext; readonly signal: AbortSignal },
): Promise<Outcome> {
  if (signal.aborted) return unchecked(check, 'you stopped it');
  const missing = check.needs.find((need) => found[need] === undefined);
  if (missing !== undefined) return unchecked(check, `${providers[missing].title} comes first`);
  const limit = timeLimit(signal, check.limitMs);
  const over = new Promise<undefined>((resolve) =>
    limit.addEventListener('abort', () => setTimeout(() => resolve(undefined), graceMs).unref(), {
      once: true,
    }),
  );
  try {
    const outcome = await Promise.race([check.run(found, place, limit), over]);
    if (outcome !== undefined) return outcome;
  } catch (error) {
    if (!limit.aborted) return broken(check, error as NodeJS.ErrnoException);
  }
  return signal.aborted ? unchecked(check, 'you stopped it') : silent(check);
}

/** A check that has been told to stop has a moment to say what it knows. */
const graceMs = 500;

function broken(check: Check, { code, message }: NodeJS.ErrnoException): Outcome {
  return finding(check, 'failed', {
    what: `the connection breaks (${code ?? message})`,
    meaning: 'the web server closes the connection without an answer, or gives one that is no HTTP.',
    advice: 'its error log has the reason.',
  });
}

function silent(check: Check): Outcome {
  return finding(check, 'failed', {
    what: `no answer within ${check.limitMs / 1000} s`,
    meaning: 'the web server, or the gateway behind it, is stuck, or a firewall swallows packets.',
    advice: 'look whether it answers on this machine, then into its error log.',
  });
}
