import { TokenBucket } from '../../base/token-bucket.ts';
import { customerNetwork } from '../net/cidr.ts';
import type { SessionRecord } from '../session/sessions.ts';

/** Refusals that were not recorded one by one. */
export interface RefusalSummary {
  readonly count: number;
  /** An IPv4 address, the /64 of an IPv6 address, or `others`. */
  readonly client: string;
  readonly code: string;
  /** When the first of them came, in milliseconds since the epoch. */
  readonly since: number;
}

/** So many are recorded one by one, and so many more each second. */
const burst = 50;
const perSecond = 2;
/** Pairs of address and code that are counted apart; the rest is counted together. */
const maxPairs = 16;
const summaryMs = 1000;

/**
 * Keeps refusals of strangers from filling the disk: above a rate they are counted, and told once a second for each
 * address and code.
 */
export class RefusalDigest {
  readonly #onSummary: (summary: RefusalSummary) => void;
  readonly #bucket: TokenBucket;
  #counts = new Map<string, RefusalSummary>();
  #timer: NodeJS.Timeout | undefined;

  /** `now`: a clock in milliseconds that never goes back. */
  constructor(onSummary: (summary: RefusalSummary) => void, now?: () => number) {
    this.#onSummary = onSummary;
    this.#bucket = new TokenBucket({ burst, perSecond, now });
  }

  /** Whether the refusal is to be recorded by itself; otherwise it is counted here. */
  isSingle({ principal, remoteAddress, end }: SessionRecord): boolean {
    if (principal !== undefined || this.#bucket.take()) return true;
    this.#count(customerNetwork(remoteAddress), String(end));
    this.#timer ??= setTimeout(() => this.flush(), summaryMs).unref();
    return false;
  }

  /** Tells what was counted so far. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const counts = this.#counts;
    this.#counts = new Map();
    for (const summary of counts.values()) this.#onSummary(summary);
  }

  #count(client: string, code: string): void {
    const pair = `${client} ${code}`;
    const isFull = this.#counts.size >= maxPairs && !this.#counts.has(pair);
    const name = isFull ? 'others' : pair;
    const { count = 0, since = Date.now() } = this.#counts.get(name) ?? {};
    this.#counts.set(name, {
      client: isFull ? 'others' : client,
      code: isFull ? 'several' : code,
      since,
      count: count + 1,
    });
  }
}
