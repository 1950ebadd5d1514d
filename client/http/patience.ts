import type { TunnelError } from '../../protocol/errors.ts';
import { interruptionOf } from './refusal.ts';

/** From the beginning: how long a request that is lost is made again. A web server or a proxy restarts within this time. */
const patienceMs = 8000;
/** Silence can last longer than that before it counts; a request that met with it is made once more up to this time. */
const silenceMs = 20_000;
/** The pause after the first loss, about; it doubles up to the longest. */
const firstPauseMs = 150;
const maxPauseMs = 1000;

/**
 * The time that the opening of one tunnel spends on requests that are lost: nothing has been carried yet, and a person or
 * ssh waits for the first byte. Counts from its construction.
 */
export class Patience {
  readonly #startedAt = performance.now();
  #pauses = 0;
  readonly #repeats = new Map<string, number>();
  #hasWaitedOutSilence = false;

  /** Whether requests that are lost are still made again. */
  get isLeft(): boolean {
    return this.#elapsedMs < patienceMs;
  }

  /**
   * The time until the request is made again that failed with `failure`; undefined when it is not. Many clients that a
   * restart has cut off together do not come back together: every pause has a random part.
   */
  pauseMs(failure: TunnelError): number | undefined {
    const interruption = interruptionOf(failure);
    if (interruption === undefined) return undefined;
    const { how, repeats = Infinity, retryAfterMs = 0 } = interruption;
    const before = this.#repeats.get(failure.message) ?? 0;
    if (before >= repeats) return undefined;
    const pauseMs =
      Math.max(retryAfterMs, Math.min(maxPauseMs, firstPauseMs * 2 ** this.#pauses)) *
      (retryAfterMs > 0 ? 1 + 0.2 * Math.random() : 0.5 + Math.random());
    const isSilent = how === 'silent' && !this.#hasWaitedOutSilence;
    if (this.#elapsedMs + pauseMs > (isSilent ? silenceMs : patienceMs)) return undefined;
    this.#hasWaitedOutSilence ||= how === 'silent';
    this.#repeats.set(failure.message, before + 1);
    this.#pauses++;
    return pauseMs;
  }

  get #elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }
}
