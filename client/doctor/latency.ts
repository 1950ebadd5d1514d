import { gatewayTarget } from '../http/gateway-url.ts';
import { sendRequest } from '../http/exchange.ts';
import { check, warning, ok } from './check.ts';
import type { ClientOutcome, ClientDoctorContext } from './check.ts';

const id = { check: 'latency', title: 'latency' };

/** Where typing begins to feel slow. */
const slowMs = 250;
const tries = 3;

/** How long an answer takes, of whoever is first, of the gateway, and of the SSH server. */
export const latency = check({
  name: 'latency',
  title: 'latency',
  needs: ['route', 'gateway'],
  limitMs: 6000,
  async run({ route, reachedMs, roundTripMs }, context, signal): Promise<ClientOutcome> {
    const times: number[] = [];
    while (times.length < tries && !signal.aborted) times.push(await answerTime(context, signal));
    const gatewayMs = Math.min(...times);
    const first = route.proxy === undefined ? 'the web server' : 'the proxy';
    const parts = reachedMs === undefined ? [] : [`${first} ${shownMs(reachedMs)}`];
    parts.push(`the gateway ${shownMs(gatewayMs)}`);
    if (roundTripMs !== undefined) parts.push(`the SSH server ${shownMs(roundTripMs)}`);
    const what = `an answer takes: ${parts.join(', ')}`;
    if (Math.max(gatewayMs, roundTripMs ?? 0) <= slowMs) return { findings: [ok(id, what)] };
    const words = { meaning: 'typing will feel slow: each key takes that long to appear.' };
    return { findings: [warning(id, what, words)] };
  },
});

/** Of an answer on a connection that stands. */
async function answerTime({ settings, egress }: ClientDoctorContext, signal: AbortSignal): Promise<number> {
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
