export interface TriesOptions<T> {
  /** One try. Calls `reached` when somebody answers at all. */
  readonly attempt: (signal: AbortSignal, reached: () => void) => Promise<T>;
  /** After how long the next try follows the one with this number, counted from 0. */
  readonly pauseMs: (number: number) => number;
  /** How long the try with this number may take. */
  readonly limitMs: (number: number) => number;
  /** Told of each try that failed, and before each new one without an error; may call `stop`. */
  readonly review: (error?: unknown) => void;
  /** Takes a result that came when there was one already. */
  readonly discard: (result: T) => void;
}

/**
 * Tries until one try succeeds. As long as nobody answers, the next one does not wait for the one before: a network that
 * comes back should not find us waiting for a lost packet. As soon as somebody does, it waits: whoever is busy would
 * only be busier.
 */
export class HedgedRetry<T> {
  readonly #options: TriesOptions<T>;
  #isOver = false;
  readonly #cut = new AbortController();
  #number = 0;
  #answering = 0;
  #timer: NodeJS.Timeout | undefined;
  /** The next try waits only for an answer. */
  #due = false;
  readonly #result: Promise<T>;
  // Node 20 has no `Promise.withResolvers`.
  #resolve!: (result: T) => void;
  #reject!: (error: unknown) => void;

  constructor(options: TriesOptions<T>) {
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

  /** Makes the next try now, as if it were the first. */
  retryNow(): void {
    if (this.#isOver || this.#answering > 0) return;
    this.#number = 0;
    this.#try();
  }

  /** Breaks off those that are under way. */
  stop(error: unknown): void {
    this.#end();
    this.#cut.abort();
    this.#reject(error);
  }

  /** Makes no more, but lets those that are under way come to their end: what they bring is discarded. */
  finish(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  #try(): void {
    clearTimeout(this.#timer);
    this.#due = false;
    this.#options.review();
    if (this.#isOver) return;
    const number = this.#number++;
    this.#timer = setTimeout(() => this.#scheduleHedge(), this.#options.pauseMs(number));
    void this.#attempt(number);
  }

  #scheduleHedge(): void {
    if (this.#answering > 0) this.#due = true;
    else this.#try();
  }

  async #attempt(number: number): Promise<void> {
    // Not by AbortSignal.timeout and any: they keep no process alive, and Node 22 may collect what they are made of.
    const limit = new AbortController();
    const { signal } = limit;
    const stop = (): void => limit.abort(this.#cut.signal.reason);
    const timer = setTimeout(
      () => limit.abort(new DOMException('too late', 'TimeoutError')),
      this.#options.limitMs(number),
    );
    this.#cut.signal.addEventListener('abort', stop, { once: true });
    let answering = 0;
    const reached = (): void => {
      this.#answering += 1 - answering;
      answering = 1;
    };
    try {
      const result = await this.#withinLimit(this.#options.attempt(signal, reached), signal);
      // Another one may have come in the same moment.
      if (this.#isOver) return this.#options.discard(result);
      this.#end();
      this.#cut.abort();
      this.#resolve(result);
    } catch (error) {
      if (!this.#isOver) this.#options.review(error);
    } finally {
      clearTimeout(timer);
      this.#cut.signal.removeEventListener('abort', stop);
      this.#answering -= answering;
      if (this.#due && !this.#isOver) this.#scheduleHedge();
    }
  }

  /** Nobody waits for an attempt that does not mind its signal. */
  #withinLimit(attempt: Promise<T>, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      // In the next turn: the attempt says better what it has waited for.
      const late = (): void => void setImmediate(() => reject(signal.reason as Error));
      signal.addEventListener('abort', late, { once: true });
      const settle = (result: T): void => {
        if (signal.aborted) return this.#options.discard(result);
        signal.removeEventListener('abort', late);
        resolve(result);
      };
      attempt.then(settle, reject);
    });
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#isOver = true;
  }
}
