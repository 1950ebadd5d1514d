import { availableParallelism, loadavg } from 'node:os';

/** Above this, waiting longer only hides a fault. */
const maxFactor = 12;
/** A turn of the probe takes this long on a quiet machine of a few years ago. */
const quietMs = 8;

/**
 * How much slower this machine is now than a quiet one, 1 to 12: by a short busy loop, and by the processes that wait for
 * each core. A limit of time that is the test's own, and no figure of the product, is multiplied by it.
 */
export function slowness(): number {
  const startedAt = performance.now();
  let sum = 0;
  for (let turn = 0; turn < 4_000_000; turn++) sum = (sum + turn * 31) | 0;
  const byLoop = (performance.now() - startedAt) / quietMs;
  // The compiler keeps a loop whose result is used.
  if (!Number.isInteger(sum)) throw new Error('the probe of the machine is broken');
  const byLoad = loadavg()[0]! / availableParallelism();
  return Math.min(maxFactor, Math.max(1, byLoop, byLoad));
}

let last = { at: -Infinity, factor: 1 };

/** A limit of a test, in milliseconds, for the machine as it is. Looks again every five seconds at most. */
export function patient(ms: number): number {
  if (performance.now() - last.at > 5000) last = { at: performance.now(), factor: slowness() };
  return Math.round(ms * last.factor);
}
