import type { Logger } from 'pino';
import { TokenBucket } from '../../base/token-bucket.ts';
import type { TokenBucketOptions } from '../../base/token-bucket.ts';

export interface BoundedLogOptions {
  /** Lines of one kind that can come at once. */
  readonly burst?: number;
  /** Lines of one kind in each second after that. */
  readonly perSecond?: number;
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

interface Allowance {
  readonly lines: TokenBucket;
  omitted: number;
  summary: NodeJS.Timeout | undefined;
}

/** The part of a logger that is needed. */
type Levels = Pick<Logger, 'info' | 'warn' | 'error'>;

const summaryMs = 1000;

/**
 * A log for events that unauthenticated clients cause: they can cause any number of them, but not of lines. Lines beyond the
 * allowance of their kind are counted, and the next line of that kind, or one a second later, has their number as `omitted`.
 */
export class BoundedLog {
  readonly #log: Levels;
  readonly #rate: TokenBucketOptions;
  readonly #allowances = new Map<string, Allowance>();

  constructor(log: Levels, { burst = 50, perSecond = 10, now }: BoundedLogOptions = {}) {
    this.#log = log;
    this.#rate = { burst, perSecond, now };
  }

  /** Writes a line, or counts it. `kind` has to come from a fixed set, such as error codes: each has its own allowance. */
  write(level: keyof Levels, kind: string, fields: object, message: string): void {
    const allowance = this.#allowanceOf(kind);
    if (!allowance.lines.take()) {
      allowance.omitted += 1;
      // Otherwise the end of a flood would be in no line.
      allowance.summary ??= setTimeout(() => {
        allowance.summary = undefined;
        if (allowance.omitted === 0) return;
        this.#log[level]({ kind, omitted: allowance.omitted }, message);
        allowance.omitted = 0;
      }, summaryMs).unref();
      return;
    }
    const { omitted } = allowance;
    allowance.omitted = 0;
    this.#log[level](omitted === 0 ? fields : { ...fields, omitted }, message);
  }

  #allowanceOf(kind: string): Allowance {
    let allowance = this.#allowances.get(kind);
    if (!allowance) {
      allowance = { lines: new TokenBucket(this.#rate), omitted: 0, summary: undefined };
      this.#allowances.set(kind, allowance);
    }
    return allowance;
  }
}
