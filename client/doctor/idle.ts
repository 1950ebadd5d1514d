import { keepAliveMs } from '../../stream/keep-alive.ts';
import type { Explanation, Finding } from '../../diagnostics/finding.ts';
import { entryFacts, entryNames } from '../../protocol/entries.ts';
import { check, warning, ok, readUntil, skip } from './check.ts';
import type { ClientFacts, ClientOutcome, ClientDoctorContext, Probe } from './check.ts';
import { identificationIn } from './greeting.ts';
import { openTunnel } from './open-tunnel.ts';
import { measure } from './measure-api.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const id = { check: 'idle', title: 'idle' };

/** Whether an intermediary cuts idle connections, and after how long. */
export const idle = check({
  name: 'idle',
  title: 'idle',
  needs: ['access'],
  limitMs: 330_000,
  async run(found, context, signal): Promise<ClientOutcome> {
    const { idleSeconds } = context;
    if (idleSeconds.length === 0) return { findings: [skip(id, 'it takes minutes (postern doctor --idle)')] };
    const maxSeconds = Math.max(...idleSeconds);
    const [tunnelMs, ...held] = await Promise.all([
      holdTunnel(found, context, signal),
      ...idleSeconds.map((seconds) => hold(seconds, context, signal)),
    ]);
    if (tunnelMs !== undefined) return { findings: [cutTunnel(tunnelMs)] };
    if (held.includes('unknown'))
      return { findings: [skip(id, 'this gateway is too old, or too busy, to measure it')] };
    const cuts = held.filter((each): each is number => typeof each === 'number');
    return { findings: [outcome(cuts, maxSeconds)] };
  },
});

function outcome(cuts: readonly number[], maxSeconds: number): ReturnType<typeof ok> {
  if (cuts.length === 0) return ok(id, `an idle connection survives ${maxSeconds} s and more`);
  // The one that lived maxSeconds came nearest to the limit.
  const limitMs = Math.max(...cuts);
  const what = `an idle connection is cut after ${(limitMs / 1000).toFixed(limitMs < 10_000 ? 1 : 0)} s`;
  if (limitMs > keepAliveMs) return ok(id, `${what}; Postern sends something every 25 s at the latest`);
  return warning(id, what, {
    ...words,
  });
}

const words: Explanation = {
  meaning:
    'the cut comes before Postern sends something by itself (after 20 to 25 s). Sessions over relay resume by themselves; others end when they are idle.',
  advice:
    'tell the operators of the web server or the proxy. For nginx: proxy_read_timeout 1h; for HAProxy: timeout tunnel 1h',
};

function cutTunnel(afterMs: number): Finding {
  return warning(id, `an idle tunnel is cut after ${(afterMs / 1000).toFixed(1)} s`, words);
}

/** The entries by upgrade whose tunnels end with their connection. */
const fragile = entryNames.filter(
  (name) => entryFacts(name).upgrade !== undefined && !entryFacts(name).resumable,
);
/** Longer than until the first beat; who lives so long is kept by the beats, and cut for another reason. */
const tunnelSeconds = 30;

/** When an idle tunnel was cut, in milliseconds; undefined when it survived, or there is none. */
async function holdTunnel(
  { probes = [] }: Partial<ClientFacts>,
  context: ClientDoctorContext,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { target, idleSeconds } = context;
  const entry = fragile.find((name) => probes.some((each) => each.entry === name && isSsh(each)));
  if (entry === undefined || target === undefined) return undefined;
  const stream = await openTunnel(entry, { ...context, target }, signal).catch(() => undefined);
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

/** When a connection that should have been silent for so long was cut, in milliseconds; undefined when it was not. */
async function hold(
  seconds: number,
  context: ClientDoctorContext,
  signal: AbortSignal,
): Promise<number | undefined | 'unknown'> {
  const answer = await measure(
    context,
    { query: { waitSeconds: String(seconds), bytes: '1' } },
    signal,
  ).catch(() => undefined);
  if (answer === undefined) return 'unknown';
  const since = performance.now();
  let size = 0;
  try {
    for await (const chunk of answer.response) size += (chunk as Buffer).length;
  } catch {
    // The size tells what arrived.
  }
  if (signal.aborted) return 'unknown';
  // One byte before the silence and one after it.
  return size >= 2 ? undefined : performance.now() - since;
}
