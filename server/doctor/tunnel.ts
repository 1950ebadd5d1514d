import { WebSocket } from 'ws';
import { rootCertificates } from 'node:tls';
import { onAbort } from '../../base/deadline.ts';
import { formatTarget } from '../../protocol/target.ts';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayDoctorContext } from './check.ts';
import { cutTooSoon } from './idle.ts';

/** Whether a tunnel opens end to end, and survives idle time. */
export const tunnel: GatewayCheck = {
  name: 'tunnel',
  title: 'tunnel',
  needs: ['passing'],
  limitMs: 60_000,
  async run({ passing, front }, context, signal) {
    const { token, host, config, idleSeconds } = context;
    if (host === undefined) return skip(tunnel, 'no host was named (--host HOST opens a tunnel to it)');
    if (token === undefined) return skip(tunnel, `the key ${config.keyFile} cannot be read here`);
    if (passing?.includes('websocket') !== true) return skip(tunnel, 'WebSocket requests do not arrive');
    const held = await hold(
      context,
      { token, path: `tcp/${encodeURIComponent(host.host)}/${host.port}/` },
      signal,
    );
    if (held.kind === 'refused') {
      return finding(tunnel, 'error', {
        what: `no tunnel to ${formatTarget(host)} opens: ${held.why}`,
        meaning: 'requests reach the gateway, but the rules, the network policy or the target refuses them.',
        advice: 'see the log of the gateway for the reason; to see which rule decides, run',
        lines: [`postern-gateway explain --as CLAIMS.json ${formatTarget(host)}`],
      });
    }
    const greeting =
      held.greeting === '' ? 'it sends nothing' : `its greeting: ${JSON.stringify(held.greeting)}`;
    const opened = `a tunnel to ${formatTarget(host)} opens (${greeting})`;
    if (held.kind === 'cut' && !signal.aborted) return cutTooSoon(tunnel, held.afterMs, { context, front });
    return finding(tunnel, 'ok', { what: `${opened}, and survives ${idleSeconds} s of silence` });
  },
};

type Held =
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'cut'; readonly greeting: string; readonly afterMs: number }
  | { readonly kind: 'alive'; readonly greeting: string };

/** Opens a tunnel and sends nothing in it, not even pings: only what the gateway sends keeps it alive. */
function hold(
  { url, authorities, idleSeconds }: GatewayDoctorContext,
  { token, path }: { readonly token: string; readonly path: string },
  signal: AbortSignal,
): Promise<Held> {
  return new Promise((resolve) => {
    const socket = new WebSocket(new URL(path, url), ['postern.tcp.v1'], {
      headers: { Authorization: `Bearer ${token}` },
      perMessageDeflate: false,
      handshakeTimeout: openMs,
      ...(authorities.length > 0 ? { ca: [...rootCertificates, ...authorities] } : {}),
    });
    let greeting = '';
    let silentSince: number | undefined;
    const finish = (held: Held): void => {
      resolve(held);
      clearTimeout(timer);
      socket.terminate();
    };
    let timer: NodeJS.Timeout | undefined;
    const onEnd = (): void => finish({ kind: 'alive', greeting });
    socket.once('open', () => {
      silentSince = performance.now();
      timer = setTimeout(onEnd, idleSeconds * 1000);
      if (!signal.aborted) onAbort(signal, onEnd);
    });
    socket.on('message', (data: Buffer) => {
      silentSince = performance.now();
      if (greeting === '') greeting = firstLine(data);
    });
    socket.on('ping', () => (silentSince = performance.now()));
    socket.once('unexpected-response', (_request, response) => {
      response.resume();
      finish({ kind: 'refused', why: `the answer is ${response.statusCode}` });
    });
    socket.on('error', (error) => {
      if (silentSince === undefined) finish({ kind: 'refused', why: error.message });
    });
    socket.once('close', () =>
      finish({ kind: 'cut', greeting, afterMs: performance.now() - (silentSince ?? performance.now()) }),
    );
  });
}

const openMs = 15_000;

function firstLine(data: Buffer): string {
  return data.subarray(0, 80).toString('latin1').split(/\r?\n/)[0]!;
}
