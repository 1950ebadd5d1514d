import type { TunnelErrorCode } from '../protocol/errors.ts';

/**
 * The result of a check. `ok`: as it should be. `warning`: sessions work, but with a loss. `error`: has to be fixed.
 * `skipped`: could not be checked, and `what` gives the reason.
 */
export type CheckStatus = 'ok' | 'warning' | 'error' | 'skipped';

/** One result of a doctor: one line of its output, and two more when there is something to fix. */
export interface Finding {
  /** The name for programs; never changes. */
  readonly check: string;
  /** The name for people. */
  readonly title: string;
  readonly status: CheckStatus;
  readonly what: string;
  /** Replaces `what` in a report for others, where `what` holds something private. */
  readonly shared?: string;
  /** The consequence, for a reader without knowledge of proxies. */
  readonly meaning?: string;
  /** The fix. */
  readonly advice?: string;
  /** Lines to copy, below the advice. */
  readonly lines?: readonly string[];
  readonly code?: TunnelErrorCode;
}

/** The source of a finding: a check, or a part of one. */
export type CheckId = Pick<Finding, 'check' | 'title'>;

/** What a finding can have besides its first line. */
export type Explanation = Pick<Finding, 'meaning' | 'advice' | 'lines' | 'shared' | 'code'>;

/** A finding of a check that was not carried out. `why` completes "not checked: …". */
export function skipped({ check, title }: CheckId, why: string): Finding {
  return { check, title, status: 'skipped', what: `not checked: ${why}` };
}

/** The first finding that has to be fixed. */
export function firstError(findings: readonly Finding[]): Finding | undefined {
  return findings.find(({ status }) => status === 'error');
}
