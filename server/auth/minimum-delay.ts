/** Minimum duration, in milliseconds, of a refusal that is the same for several reasons, so that its time tells no more than its text. */
export const minimumDelayMs = 50;

/** The minimum duration of one answer, from the start of the timer. */
export interface MinimumDelay {
  /** Resolves when the time is over. */
  readonly over: Promise<void>;
  /** Clears the timer; must always be called. */
  drop(): void;
}

/**
 * Starts the timer; call it before any check. A delay computed afterwards is rounded to milliseconds, and the remainder
 * would leak how long the checks took.
 */
export function startMinimumDelay(ms: number = minimumDelayMs): MinimumDelay {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  return { over, drop: () => clearTimeout(timer) };
}
