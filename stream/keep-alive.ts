import type { Carrier } from './carrier.ts';
import { LivenessMonitor } from './liveness.ts';

/** Below every default idle timeout of intermediaries (nginx: 60 s; Squid and load balancers: 60 s and more). */
export const keepAliveMs = 25_000;

/** A peer that leaves two pings unanswered is gone. */
const maxUnanswered = 2;

/** Above this, pings wait for their answer: a peer that does not read the answers gets one for all of them. */
const maxPongBytes = 4096;

/**
 * Calls `beat` about every `intervalMs`, a little earlier or later each time so that many tunnels do not beat
 * together. Does not keep the process alive. Returns the function that stops it.
 */
export function everyInterval(intervalMs: number, beat: () => void): () => void {
  let timer: NodeJS.Timeout;
  const next = (): void => {
    timer = setTimeout(
      () => {
        next();
        beat();
      },
      intervalMs * (0.8 + 0.2 * Math.random()),
    );
    timer.unref();
  };
  next();
  return () => clearTimeout(timer);
}

export interface KeepAliveOptions {
  readonly intervalMs: number;
  /** Whether the peer answers pings; without answers it is never taken for dead. */
  readonly answersPings: boolean;
  /** Called before each regular ping. */
  readonly onBeat: () => void;
  /** Called when the peer has left too many pings unanswered. */
  readonly onDead: () => void;
  /** Called when the peer owes an answer and nothing arrives; absent: that is not watched. */
  readonly onUnresponsive?: (() => void) | undefined;
  /** Called when something has arrived after all. */
  readonly onRecovered?: (() => void) | undefined;
}

/** Pings on the carriers of one tunnel: sends them, answers the peer's, and detects a dead connection. */
export class KeepAlive {
  readonly #options: KeepAliveOptions;
  readonly #liveness: LivenessMonitor | undefined;
  #carrier: Carrier | undefined;
  #stopBeating: (() => void) | undefined;
  /** Pings since anything has arrived. */
  #unanswered = 0;
  #pings = 0;
  /** The id of the peer's last ping, while it has no answer. */
  #pendingPong: number | undefined;

  constructor(options: KeepAliveOptions) {
    this.#options = options;
    const { onUnresponsive, onRecovered } = options;
    if (onUnresponsive !== undefined)
      this.#liveness = new LivenessMonitor({
        ping: () => this.#ping(),
        onUnresponsive,
        onRecovered: () => onRecovered?.(),
      });
  }

  /** Pings on this carrier from now on. */
  attach(carrier: Carrier): void {
    this.#carrier = carrier;
    this.#unanswered = 0;
    this.#pendingPong = undefined;
    this.#liveness?.reset();
    this.#stopBeating ??= everyInterval(this.#options.intervalMs, () => this.#beat());
  }

  /** The carrier is gone; no answer is owed any more. */
  detach(): void {
    this.#carrier = undefined;
    this.#liveness?.reset();
  }

  /** Stops for good. */
  stop(): void {
    this.detach();
    this.#stopBeating?.();
  }

  /** Something was sent that the peer answers. */
  sent(): void {
    this.#liveness?.sent();
  }

  /** Something has arrived. A peer that sends is alive; its answer to a ping may be far behind. */
  received(): void {
    this.#unanswered = 0;
    this.#liveness?.received();
  }

  /** Answers the peer's ping, as soon as what was sent before has left. */
  onPing(id: number): void {
    this.#pendingPong = id;
    this.sendPong();
  }

  /** Sends the answer that is due, if there is room for it. */
  sendPong(): void {
    if (this.#pendingPong === undefined || this.#carrier === undefined) return;
    if (this.#carrier.waitingBytes > maxPongBytes) return;
    this.#carrier.send({ kind: 'pong', id: this.#pendingPong });
    this.#pendingPong = undefined;
  }

  /** Pings now, because there is reason to doubt the connection. */
  probe(): void {
    if (this.#carrier) this.#liveness?.ping();
  }

  #beat(): void {
    if (this.#carrier === undefined) return;
    if (this.#options.answersPings && this.#unanswered >= maxUnanswered) return this.#options.onDead();
    this.#options.onBeat();
    this.#ping();
  }

  #ping(): void {
    this.#unanswered++;
    this.#carrier?.send({ kind: 'ping', id: this.#pings++ });
    this.#liveness?.sent();
  }
}
