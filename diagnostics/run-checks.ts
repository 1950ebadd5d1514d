import { setTimeout as delay } from 'node:timers/promises';
import { deadlineSignal, onAbort } from '../base/deadline.ts';
import { skipped } from './finding.ts';
import type { CheckId, Finding } from './finding.ts';

/** The result of a check: findings for people, and facts for the checks after it. */
export interface Outcome<Facts> {
  readonly findings: readonly Finding[];
  readonly found?: Partial<Facts>;
}

/** One step of a doctor. Runs only when the facts that it needs are there. */
export interface Check<Context, Facts> {
  /** The name for programs, and that of the check's own finding. */
  readonly name: string;
  readonly title: string;
  readonly needs: readonly (keyof Facts)[];
  /** Time limit in milliseconds; exceeding it is a finding too. */
  readonly limitMs: number;
  run(found: Partial<Facts>, context: Context, signal: AbortSignal): Promise<Outcome<Facts>>;
}

/** How a doctor runs its checks. */
export interface RunOptions<Context, Facts> {
  readonly context: Context;
  /** Aborted when the user stops the doctor. */
  readonly signal: AbortSignal;
  /** Called with each finding as soon as it is there. */
  readonly onFinding: (finding: Finding) => void;
  /** What provides each fact, for the reason "… has to work first". */
  readonly providers: Readonly<Record<keyof Facts, string>>;
  /** The limit for all checks but `unlimited`, in milliseconds. */
  readonly total?: { readonly ms: number; readonly unlimited: Check<Context, Facts> };
  /** The finding for a check that threw `error`, after its own time limit or before it. */
  readonly onError: (check: Check<Context, Facts>, error: unknown, isTimedOut: boolean) => Finding;
  /** The finding for a check that exceeded its time limit. */
  readonly onTimeout: (check: Check<Context, Facts>) => Finding;
}

/** A check that has been stopped has this long to report what it knows. */
const graceMs = 500;
const keepAliveMs = 30_000;

/**
 * Runs the checks in turn, each with the facts that the ones before have found. After `signal` the rest is reported as
 * skipped. Never rejects.
 */
export async function runChecks<Context, Facts>(
  checks: readonly Check<Context, Facts>[],
  options: RunOptions<Context, Facts>,
): Promise<readonly Finding[]> {
  const { signal, total, onFinding } = options;
  const limited = total === undefined ? signal : deadlineSignal(signal, total.ms);
  const findings: Finding[] = [];
  let found: Partial<Facts> = {};
  // Neither the time limits nor the operations that are waited for are sure to keep the process alive.
  const alive = setInterval(() => {}, keepAliveMs);
  for (const check of checks) {
    const limit = check === total?.unlimited ? signal : limited;
    const outcome = await runCheck(check, { found, limit, options });
    found = { ...found, ...outcome.found };
    for (const finding of outcome.findings) {
      findings.push(finding);
      onFinding(finding);
    }
  }
  clearInterval(alive);
  return findings;
}

/** The finding's source for a check's own findings. */
export function idOf({ name, title }: { readonly name: string; readonly title: string }): CheckId {
  return { check: name, title };
}

async function runCheck<Context, Facts>(
  check: Check<Context, Facts>,
  {
    found,
    limit,
    options,
  }: {
    readonly found: Partial<Facts>;
    readonly limit: AbortSignal;
    readonly options: RunOptions<Context, Facts>;
  },
): Promise<Outcome<Facts>> {
  const { signal, context, providers, total, onError, onTimeout } = options;
  const stopped = (): Outcome<Facts> => {
    const isByUser = signal.aborted || total === undefined;
    const why = isByUser ? 'you stopped it' : `the ${total.ms / 1000} seconds for all checks had passed`;
    return { findings: [skipped(idOf(check), why)] };
  };
  if (limit.aborted) return stopped();
  const missing = check.needs.find((need) => found[need] === undefined);
  if (missing !== undefined)
    return { findings: [skipped(idOf(check), `${providers[missing]} has to work first`)] };
  const own = deadlineSignal(limit, check.limitMs);
  try {
    const outcome = await Promise.race([check.run(found, context, own), graceAfter(own)]);
    const isConclusive = outcome?.findings.every(({ status }) => status !== 'error') === true;
    // A failure of a check that was stopped means nothing.
    if (limit.aborted && !isConclusive) return stopped();
    return outcome ?? { findings: [onTimeout(check)] };
  } catch (error) {
    return limit.aborted ? stopped() : { findings: [onError(check, error, own.aborted)] };
  }
}

/** Resolves to undefined a moment after `signal` aborts. */
async function graceAfter(signal: AbortSignal): Promise<undefined> {
  await new Promise<void>((resolve) => void onAbort(signal, resolve));
  return delay(graceMs, undefined, { ref: false });
}
