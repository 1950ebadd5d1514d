import { keepAliveMs } from '../../stream/keep-alive.ts';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayFacts, GatewayOutcome, GatewayDoctorContext } from './check.ts';
import { linesFor } from './fronts.ts';
import { probe } from './probe.ts';

/** Whether the web server cuts idle responses sooner than Postern sends something. */
export const idle: GatewayCheck = {
  name: 'idle',
  title: 'idle',
  needs: ['isForwarded'],
  limitMs: 60_000,
  async run({ front }, context, signal) {
    const { token, config, idleSeconds } = context;
    if (token === undefined) return skip(idle, `the key ${config.keyFile} cannot be read here`);
    const path = `api/measure?waitSeconds=${idleSeconds}&bytes=1`;
    const authorization = { Authorization: `Bearer ${token}` };
    const { status, isWhole, spreadMs } = await probe(context, { path, headers: authorization }, signal);
    if (status !== 200) return skip(idle, `the gateway answered ${status}`);
    if (!isWhole) return cutTooSoon(idle, spreadMs, { context, front });
    const isLong = idleSeconds * 1000 > keepAliveMs;
    const rest = isLong
      ? ', longer than Postern is ever silent'
      : ' (--idle holds it longer than Postern is silent)';
    return finding(idle, 'ok', { what: `a silence of ${idleSeconds} s is not cut${rest}` });
  },
};

/** The outcome for a connection that was cut after `afterMs`. */
export function cutTooSoon(
  id: Pick<GatewayCheck, 'name' | 'title'>,
  afterMs: number,
  {
    context,
    front,
  }: { readonly context: GatewayDoctorContext; readonly front: GatewayFacts['front'] | undefined },
): GatewayOutcome {
  const what = `the web server cuts connections that are idle for ${(afterMs / 1000).toFixed(1)} s`;
  if (afterMs > keepAliveMs)
    return finding(id, 'ok', { what: `${what}; Postern sends something every 25 s at the latest` });
  return finding(id, 'warning', {
    what,
    meaning:
      'Postern sends something only every 20 to 25 s, so idle tunnels are cut. Those over relay resume; the others end.',
    advice: 'add this:',
    lines: linesFor('idle', front, context.config),
  });
}
