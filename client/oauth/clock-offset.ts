import type { GatewayChallenge } from '../errors/failure.ts';

/** A gateway accepts proofs that are up to a minute off; this little needs no correction, a slow answer looks like it. */
const unimportantMs = 10_000;

/** How far the clock that made an answer is ahead of the one here; 0 when it does not matter. */
export function clockOffset({ date }: GatewayChallenge, now = Date.now()): number {
  if (date === undefined) return 0;
  // The field is cut to seconds.
  const offset = date + 500 - now;
  return Math.abs(offset) < unimportantMs ? 0 : offset;
}
