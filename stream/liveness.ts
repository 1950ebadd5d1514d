/** What is done about a silence. */
export interface LivenessOptions {
  /** Asks the peer for a sign of life. */
  readonly ping: () => void;
  /** The peer has owed us an answer for too long. Called once in each silence. */
  readonly onUnresponsive: () => void;
  /** Something has come from it after all. */
  readonly onRecovered: () => void;
  readonly pingAfterMs?: number;
  readonly responseTimeoutMs?: number;
}

/** Who owes an answer for this long is asked for one. */
const defaultPatienceMs = 500;
/** Who does not answer for this long is not heard from soon. A path by satellite needs 0.6 s. */
const defaultAnswerMs = 1000;

/**
 * Notices in a second and a half that a connection is dead under the hands of somebody who uses it; TCP itself takes a quarter
 * of an hour. Silence alone means nothing: only a peer that owes an answer is waited for. It may be told of every frame.
 */
export class LivenessMonitor {
  readonly #options: LivenessOptions;
  readonly #pingAfterMs: number;
  readonly #responseTimeoutMs: number;
  /** Since when the peer owes an answer. */
  #owedSince: number | undefined;
  #asked = false;
  #silent = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#pingAfterMs = options.pingAfterMs ?? defaultPatienceMs;
    this.#responseTimeoutMs = options.responseTimeoutMs ?? defaultAnswerMs;
  }

  /** Something was sent that is answered, or shows that the peer is wanted. */
  sent(): void {
    if (this.#owedSince !== undefined) return;
    this.#owedSince = performance.now();
    this.#timer ??= this.#lookAfter(this.#pingAfterMs);
  }

  /** Something has come. */
  heard(): void {
    this.#owedSince = undefined;
    this.#asked = false;
    if (!this.#silent) return;
    this.#silent = false;
    this.#options.onRecovered();
  }

  /** Asks now, because there is reason to doubt. */
  ping(): void {
    if (this.#silent) return;
    clearTimeout(this.#timer);
    this.#owedSince ??= performance.now();
    this.#asked = true;
    this.#timer = this.#lookAfter(this.#responseTimeoutMs);
    this.#options.ping();
  }

  /** Forgets everything: the connection is another one, or gone. */
  reset(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#owedSince = undefined;
    this.#asked = false;
    this.#silent = false;
  }

  #lookAfter(ms: number): NodeJS.Timeout {
    const timer = setTimeout(() => {
      // This process may have been stopped, or busy: what has come in the meantime is read first.
      setImmediate(() => {
        if (timer === this.#timer) this.#look();
      });
    }, ms);
    timer.unref();
    return timer;
  }

  #look(): void {
    this.#timer = undefined;
    if (this.#owedSince === undefined || this.#silent) return;
    const rest = this.#owedSince + this.#pingAfterMs - performance.now();
    if (this.#asked) {
      this.#silent = true;
      this.#options.onUnresponsive();
    } else if (rest > 0) this.#timer = this.#lookAfter(rest);
    else this.ping();
  }
}
