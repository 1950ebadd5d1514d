import { onAbort } from '../../base/deadline.ts';

/** What `HedgedRetry` repeats, and how. */
export interface RetryOptions<T> {
  /** Makes one attempt. Calls `onReached` as soon as a server has been reached. */
  readonly attempt: (signal: AbortSignal, onReached: () => void) => Promise<T>;
  /** The time between the attempt with this number, counted from 0, and the next one. */
  readonly pauseMs: (number: number) => number;
  /** The limit of the attempt with this number. */
  readonly limitMs: (number: number) => number;
  /** Called with the error of each attempt that failed, and without one before each new attempt; can call `stop`. */
  readonly review: (error?: unknown) => void;
  /** Receives a result that came after another one. */
  readonly discard: (result: T) => void;
}

/**
 * Repeats an attempt until one succeeds. As long as no server is reached, the next attempt does not wait for the one
 * before: when a network comes back, the client must not be waiting for a lost packet. As soon as a server is reached
 * the next attempt waits: a server that is busy would only get busier.
 */
export class HedgedRetry<T> {
  readonly #options: RetryOptions<T>;
  #isOver = false;
  readonly #cut = new AbortController();
  #number = 0;
  #reached = 0;
  #timer: NodeJS.Timeout | undefined;
  /** The next attempt is due as soon as the server that was reached has answered. */
  #isDue = false;
  readonly #result: Promise<T>;
  // Node 20 has no `Promise.withResolvers`.
  #resolve!: (result: T) => void;
  #reject!: (error: unknown) => void;

  constructor(options: RetryOptions<T>) {
    this.#options = options;
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Starts, after a pause. Resolves to the first result; rejects with what `stop` is called with. */
  run(pauseMs = 0): Promise<T> {
    if (pauseMs === 0) this.#try();
    else this.#timer = setTimeout(() => this.#try(), pauseMs);
    return this.#result;
  }

  /** Makes the next attempt now, as if it were the first. */
  retryNow(): void {
    if (this.#isOver || this.#reached > 0) return;
    this.#number = 0;
    this.#try();
  }

  /** Aborts the attempts under way and rejects `run` with `error`. */
  stop(error: unknown): void {
    this.#end();
    this.#cut.abort();
    this.#reject(error);
  }

  /** Rejects `run` and makes no more attempts, but lets those under way finish: their results are discarded. */
  finish(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  #try(): void {
    clearTimeout(this.#timer);
    this.#isDue = false;
    this.#options.review();
    if (this.#isOver) return;
    const number = this.#number++;
    this.#timer = setTimeout(() => this.#scheduleHedge(), this.#options.pauseMs(number));
    void this.#attempt(number);
  }

  #scheduleHedge(): void {
    if (this.#reached > 0) this.#isDue = true;
    else this.#try();
  }

  async #attempt(number: number): Promise<void> {
    // Not `AbortSignal.timeout` and `any`: they keep no process alive, and Node 22 can garbage-collect their sources.
    const limit = new AbortController();
    const { signal } = limit;
    const timer = setTimeout(
      () => limit.abort(new DOMException('too late', 'TimeoutError')),
      this.#options.limitMs(number),
    );
    const removeListener = onAbort(this.#cut.signal, () => limit.abort(this.#cut.signal.reason));
    let reached = 0;
    const onReached = (): void => {
      this.#reached += 1 - reached;
      reached = 1;
    };
    try {
      const result = await this.#withinLimit(this.#options.attempt(signal, onReached), signal);
      // Another attempt can have succeeded in the same moment.
      if (this.#isOver) return this.#options.discard(result);
      this.#end();
      this.#cut.abort();
      this.#resolve(result);
    } catch (error) {
      if (!this.#isOver) this.#options.review(error);
    } finally {
      clearTimeout(timer);
      removeListener();
      this.#reached -= reached;
      if (this.#isDue && !this.#isOver) this.#scheduleHedge();
    }
  }

  /** Settles with `attempt`, or when `signal` aborts, also where the attempt ignores its signal; a later result is discarded. */
  #withinLimit(attempt: Promise<T>, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      // In the next turn: the error of the attempt itself is more precise.
      const removeListener = onAbort(signal, () => void setImmediate(() => reject(signal.reason as Error)));
      const onResult = (result: T): void => {
        if (signal.aborted) return this.#options.discard(result);
        removeListener();
        resolve(result);
      };
      attempt.then(onResult, reject);
    });
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#isOver = true;
  }
}
