import type { GatewayChallenge } from '../errors/failure.ts';

/** A smaller offset is not corrected: the gateway accepts proofs that are up to a minute off, and a slow response looks the same. */
const minOffsetMs = 10_000;

/** How far the gateway's clock is ahead of the local one, in milliseconds, from the `Date` of a response; 0 for a small offset. */
export function clockOffset({ date }: GatewayChallenge, now = Date.now()): number {
  if (date === undefined) return 0;
  // `Date` is truncated to seconds: half a second is the mean error.
  const offset = date + 500 - now;
  return Math.abs(offset) < minOffsetMs ? 0 : offset;
}
