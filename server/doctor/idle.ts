import { keepAliveMs } from '../../stream/keep-alive.ts';
import { finding, unchecked } from './check.ts';
import type { Check, Facts, Outcome, DoctorContext } from './check.ts';
import { linesFor } from './fronts.ts';
import { probe } from './probe.ts';

/** Whether the web server cuts answers on which nothing is said, sooner than Postern says something. */
export const idle: Check = {
  name: 'idle',
  title: 'idle',
  needs: ['isForwarded'],
  limitMs: 60_000,
  async run({ front }, place, signal) {
    const { token, config, idleSeconds } = place;
    if (token === undefined) return unchecked(idle, `the key ${config.keyFile} cannot be read here`);
    const path = `api/measure?waitSeconds=${idleSeconds}&bytes=1`;
    const authorization = { Authorization: `Bearer ${token}` };
    const { status, isWhole, spreadMs } = await probe(place, { path, headers: authorization }, signal);
    if (status !== 200) return unchecked(idle, `the gateway answered ${status}`);
    if (!isWhole) return cutTooSoon(idle, spreadMs, { place, front });
    const isLong = idleSeconds * 1000 > keepAliveMs;
    const rest = isLong
      ? ', longer than Postern is ever silent'
      : ' (--idle holds it longer than Postern is silent)';
    return finding(idle, 'good', { what: `a silence of ${idleSeconds} s is not cut${rest}` });
  },
};

/** What a cut after so long comes to. */
export function cutTooSoon(
  speaker: Pick<Check, 'name' | 'title'>,
  afterMs: number,
  { place, front }: { readonly place: DoctorContext; readonly front: Facts['front'] | undefined },
): Outcome {
  const what = `the web server cuts what is silent for ${(afterMs / 1000).toFixed(1)} s`;
  if (afterMs > keepAliveMs)
    return finding(speaker, 'good', { what: `${what}; Postern says something every 25 s at the latest` });
  return finding(speaker, 'costly', {
    what,
    meaning:
      'Postern says something only every 20 to 25 s, so tunnels are cut when nobody types. Those by relay come back; the others end.',
    advice: 'put this in:',
    lines: linesFor('idle', front, place.config),
  });
}
