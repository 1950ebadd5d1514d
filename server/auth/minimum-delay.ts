/** How long a refusal takes at least that is the same for several reasons, so that its time tells no more than its text. */
export const minimumDelayMs = 50;

/** The least time of one answer, counted from when it was started. */
export interface MinimumDelay {
  /** Resolves when the time is over. */
  readonly over: Promise<void>;
  /** Gives the timer back; to be called in any case. */
  drop(): void;
}

/**
 * Starts the time before anything is looked at. A wait that were reckoned when the reason is known would be rounded
 * to milliseconds, and what is left over would tell how long the looking took.
 */
export function startMinimumDelay(ms: number = minimumDelayMs): MinimumDelay {
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  return { over, drop: () => clearTimeout(timer) };
}
