/** What is done when the peer does not answer. */
export interface LivenessOptions {
  /** Sends a ping. */
  readonly ping: () => void;
  /** Called once in each silence: the peer has owed an answer for too long. */
  readonly onUnresponsive: () => void;
  /** Called when something has arrived after all. */
  readonly onRecovered: () => void;
  readonly pingAfterMs?: number;
  readonly responseTimeoutMs?: number;
}

/** Send a ping after the peer has owed an answer for this long. */
const defaultPingAfterMs = 500;
/** Without an answer for this long, none is likely to come soon. A satellite path needs 0.6 s. */
const defaultResponseTimeoutMs = 1000;

/**
 * Detects within a second and a half that a connection has died while it is in use; TCP itself takes a quarter of an hour.
 * Silence alone means nothing: only a peer that owes an answer is watched. Cheap enough to be called for every frame.
 */
export class LivenessMonitor {
  readonly #options: LivenessOptions;
  readonly #pingAfterMs: number;
  readonly #responseTimeoutMs: number;
  /** `waiting`: the peer owes an answer; `pinged`: it was asked for one; `unresponsive`: none came in time. */
  #state: 'idle' | 'waiting' | 'pinged' | 'unresponsive' = 'idle';
  #waitingSince = 0;
  /** It can outlive its state, which it looks at when it fires. */
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LivenessOptions) {
    this.#options = options;
    this.#pingAfterMs = options.pingAfterMs ?? defaultPingAfterMs;
    this.#responseTimeoutMs = options.responseTimeoutMs ?? defaultResponseTimeoutMs;
  }

  /** Something was sent that the peer answers, or that shows that the connection is in use. */
  sent(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'waiting';
    this.#waitingSince = performance.now();
    this.#timer ??= this.#checkAfter(this.#pingAfterMs);
  }

  /** Something has arrived. */
  received(): void {
    const wasUnresponsive = this.#state === 'unresponsive';
    this.#state = 'idle';
    if (wasUnresponsive) this.#options.onRecovered();
  }

  /** Pings now, because there is reason to doubt the connection. */
  ping(): void {
    if (this.#state === 'unresponsive') return;
    clearTimeout(this.#timer);
    this.#state = 'pinged';
    this.#timer = this.#checkAfter(this.#responseTimeoutMs);
    this.#options.ping();
  }

  /** Starts anew: the connection is another one, or closed. */
  reset(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#state = 'idle';
  }

  #checkAfter(ms: number): NodeJS.Timeout {
    const timer = setTimeout(() => {
      // This process may have been stopped, or busy: what has arrived in the meantime is read first.
      setImmediate(() => {
        if (timer === this.#timer) this.#check();
      });
    }, ms);
    timer.unref();
    return timer;
  }

  #check(): void {
    this.#timer = undefined;
    if (this.#state === 'pinged') {
      this.#state = 'unresponsive';
      this.#options.onUnresponsive();
    } else if (this.#state === 'waiting') {
      const rest = this.#waitingSince + this.#pingAfterMs - performance.now();
      if (rest > 0) this.#timer = this.#checkAfter(rest);
      else this.ping();
    }
  }
}
