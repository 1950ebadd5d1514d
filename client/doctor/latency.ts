import { gatewayTarget } from '../http/gateway-url.ts';
import { sendRequest } from '../http/exchange.ts';
import { check, costly, good } from './check.ts';
import type { Outcome, DoctorContext } from './check.ts';

const speaker = { check: 'latency', title: 'latency' };

/** Where typing begins to feel slow. */
const slowMs = 250;
const tries = 3;

/** How long an answer takes, of whoever is first, of the gateway, and of the SSH server. */
export const latency = check({
  name: 'latency',
  title: 'latency',
  needs: ['way', 'gateway'],
  limitMs: 6000,
  async run({ way, reachedMs, roundTripMs }, place, signal): Promise<Outcome> {
    const times: number[] = [];
    while (times.length < tries && !signal.aborted) times.push(await answerTime(place, signal));
    const gatewayMs = Math.min(...times);
    const first = way.proxy === undefined ? 'the web server' : 'the proxy';
    const parts = reachedMs === undefined ? [] : [`${first} ${shownMs(reachedMs)}`];
    parts.push(`the gateway ${shownMs(gatewayMs)}`);
    if (roundTripMs !== undefined) parts.push(`the SSH server ${shownMs(roundTripMs)}`);
    const what = `an answer takes: ${parts.join(', ')}`;
    if (Math.max(gatewayMs, roundTripMs ?? 0) <= slowMs) return { findings: [good(speaker, what)] };
    const words = { meaning: 'typing will feel slow: each key takes that long to appear.' };
    return { findings: [costly(speaker, what, words)] };
  },
});

/** Of an answer on a connection that stands. */
async function answerTime({ settings, egress }: DoctorContext, signal: AbortSignal): Promise<number> {
  const { gateway } = settings;
  const socket = await egress.connect(gatewayTarget(gateway), signal);
  try {
    const since = performance.now();
    const headers = { Host: gateway.host };
    const path = `${gateway.pathname}.well-known/postern`;
    const { response } = await sendRequest(
      socket,
      { method: 'GET', path, headers, peer: gateway.host },
      signal,
    );
    response.destroy();
    return performance.now() - since;
  } finally {
    socket.destroy();
  }
}

function shownMs(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
