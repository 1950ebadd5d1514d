import { gatewayTarget } from '../http/gateway-url.ts';
import { sendRequest } from '../http/exchange.ts';
import { check, warning, ok } from './check.ts';
import type { ClientOutcome, ClientDoctorContext } from './check.ts';

const id = { check: 'latency', title: 'latency' };

/** Above this, typing begins to feel slow. */
const slowMs = 250;
const tries = 3;

/** Response times of the first peer, of the gateway, and of the SSH server. */
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
    const parts = reachedMs === undefined ? [] : [`${first} ${formatMs(reachedMs)}`];
    parts.push(`the gateway ${formatMs(gatewayMs)}`);
    if (roundTripMs !== undefined) parts.push(`the SSH server ${formatMs(roundTripMs)}`);
    const what = `response times: ${parts.join(', ')}`;
    if (Math.max(gatewayMs, roundTripMs ?? 0) <= slowMs) return { findings: [ok(id, what)] };
    const words = { meaning: 'typing will feel slow: each key takes that long to appear.' };
    return { findings: [warning(id, what, words)] };
  },
});

/** Response time on an open connection, in milliseconds. */
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

function formatMs(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
