import { keepAliveMs } from '../../stream/keep-alive.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { entryFacts, entryNames } from '../../protocol/entries.ts';
import { check, costly, good, readUntil, unchecked } from './check.ts';
import type { Facts, Outcome, DoctorContext, Probe, Explanation } from './check.ts';
import { identificationIn } from './greeting.ts';
import { openTunnel } from './open-tunnel.ts';
import { measure } from './measure-api.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const speaker = { check: 'idle', title: 'idle' };

/** Whether something on the way cuts connections on which nothing is said, and after how long. */
export const idle = check({
  name: 'idle',
  title: 'idle',
  needs: ['access'],
  limitMs: 330_000,
  async run(found, place, signal): Promise<Outcome> {
    const { idleSeconds } = place;
    if (idleSeconds.length === 0)
      return { findings: [unchecked(speaker, 'it takes minutes (postern doctor --idle)')] };
    const longest = Math.max(...idleSeconds);
    const [tunnelMs, ...held] = await Promise.all([
      holdTunnel(found, place, signal),
      ...idleSeconds.map((seconds) => hold(seconds, place, signal)),
    ]);
    if (tunnelMs !== undefined) return { findings: [cutTunnel(tunnelMs)] };
    if (held.includes('unknown'))
      return { findings: [unchecked(speaker, 'this gateway is too old, or too busy, to measure it')] };
    const cuts = held.filter((each): each is number => typeof each === 'number');
    return { findings: [outcome(cuts, longest)] };
  },
});

function outcome(cuts: readonly number[], longest: number): ReturnType<typeof good> {
  if (cuts.length === 0)
    return good(speaker, `a connection on which nothing is said lives ${longest} s and more`);
  // The one that lived longest came nearest to the limit.
  const limitMs = Math.max(...cuts);
  const what = `a connection on which nothing is said is cut after ${(limitMs / 1000).toFixed(limitMs < 10_000 ? 1 : 0)} s`;
  if (limitMs > keepAliveMs) return good(speaker, `${what}; Postern says something every 25 s at the latest`);
  return costly(speaker, what, {
    ...words,
  });
}

const words: Explanation = {
  meaning:
    'that is sooner than Postern says something by itself (20 to 25 s). Sessions by relay come back by themselves; others end when nobody types.',
  advice:
    'tell those who run the web server or the proxy. For nginx: proxy_read_timeout 1h; for HAProxy: timeout tunnel 1h',
};

function cutTunnel(afterMs: number): Finding {
  return costly(
    speaker,
    `a tunnel in which nobody types is cut after ${(afterMs / 1000).toFixed(1)} s`,
    words,
  );
}

/** The entries by upgrade whose tunnels end with their connection. */
const fragile = entryNames.filter(
  (name) => entryFacts(name).upgrade !== undefined && !entryFacts(name).resumable,
);
/** Longer than until the first beat; who lives so long is kept by the beats, and cut for another reason. */
const tunnelSeconds = 30;

/** When a tunnel was cut in which nothing was said but the beats; undefined when it lived, or there is none. */
async function holdTunnel(
  { probes = [] }: Partial<Facts>,
  place: DoctorContext,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { target, idleSeconds } = place;
  const entry = fragile.find((name) => probes.some((each) => each.entry === name && isSsh(each)));
  if (entry === undefined || target === undefined) return undefined;
  const stream = await openTunnel(entry, { ...place, target }, signal).catch(() => undefined);
  if (stream === undefined) return undefined;
  const since = performance.now();
  const limit = deadlineSignal(signal, Math.min(tunnelSeconds, Math.max(...idleSeconds)) * 1000);
  const { hasEnded } = await readUntil(stream, () => false, limit);
  stream.destroy();
  const livedMs = performance.now() - since;
  return hasEnded && livedMs < keepAliveMs ? livedMs : undefined;
}

function isSsh({ greeting }: Probe): boolean {
  return greeting !== undefined && identificationIn(greeting) !== undefined;
}

/** When a connection was cut that should have been silent for so long; undefined when it was not. */
async function hold(
  seconds: number,
  place: DoctorContext,
  signal: AbortSignal,
): Promise<number | undefined | 'unknown'> {
  const answer = await measure(place, { query: { waitSeconds: String(seconds), bytes: '1' } }, signal).catch(
    () => undefined,
  );
  if (answer === undefined) return 'unknown';
  const since = performance.now();
  let size = 0;
  try {
    for await (const chunk of answer.response) size += (chunk as Buffer).length;
  } catch {
    // What has come tells.
  }
  if (signal.aborted) return 'unknown';
  // One byte before the silence and one after it.
  return size >= 2 ? undefined : performance.now() - since;
}
