import type { IncomingMessage } from 'node:http';
import { WebSocket } from 'ws';
import { rootCertificates } from 'node:tls';
import { onAbort } from '../../base/deadline.ts';
import { isTunnelErrorCode, tunnelErrors } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import { formatTarget } from '../../protocol/target.ts';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayDoctorContext, GatewayOutcome } from './check.ts';
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
    if (held.kind === 'refused') return refused(held, host, context);
    const greeting =
      held.greeting === '' ? 'it sends nothing' : `its greeting: ${JSON.stringify(held.greeting)}`;
    const opened = `a tunnel to ${formatTarget(host)} opens (${greeting})`;
    if (held.kind === 'cut' && !signal.aborted) return cutTooSoon(tunnel, held.afterMs, { context, front });
    return finding(tunnel, 'ok', { what: `${opened}, and survives ${idleSeconds} s of silence` });
  },
};

/** The finding for a tunnel that does not open: with the gateway's own reason, and the line that changes it. */
async function refused(
  { why, code }: Extract<Held, { kind: 'refused' }>,
  host: Target,
  { explain }: GatewayDoctorContext,
): Promise<GatewayOutcome> {
  const found = code && (await explain?.(code, host).catch(() => undefined));
  const reason = code === undefined ? why : `${found?.why ?? why} (${code})`;
  return finding(tunnel, 'error', {
    what: `no tunnel to ${formatTarget(host)} opens: ${reason}`,
    meaning: meaningOf(code),
    advice: found?.advice ?? 'see the log of the gateway for the reason; to see which rule decides, run',
    lines: found?.lines ?? [`postern-gateway explain --as CLAIMS.json ${formatTarget(host)}`],
    ...(code !== undefined && { code }),
  });
}

function meaningOf(code: TunnelErrorCode | undefined): string {
  const begin = 'requests reach the gateway, but';
  if (code === undefined) return `${begin} the rules, the network policy or the target refuses them.`;
  if (code === 'TARGET_DENIED') return `${begin} its rules refuse them.`;
  if (code === 'ADDRESS_DENIED') return `${begin} its network policy refuses them.`;
  return tunnelErrors[code].layer === 'target'
    ? `the gateway allows this host, but cannot reach it.`
    : `${begin} it refuses them.`;
}

type Held =
  | { readonly kind: 'refused'; readonly why: string; readonly code?: TunnelErrorCode }
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
      const answer = `the answer is ${response.statusCode}`;
      readJson(response, maxProblemBytes).then(
        (body) => finish({ kind: 'refused', why: answer, ...problemIn(body) }),
        () => finish({ kind: 'refused', why: answer }),
      );
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
const maxProblemBytes = 64 * 1024;

/** The gateway's own reason in a refusal (RFC 9457); empty for the response of another server. */
function problemIn(body: unknown): { readonly why?: string; readonly code?: TunnelErrorCode } {
  const { code, detail } = body as { readonly code?: unknown; readonly detail?: unknown };
  if (!isTunnelErrorCode(code)) return {};
  return { code, ...(typeof detail === 'string' && { why: detail }) };
}

async function readJson(response: IncomingMessage, maxBytes: number): Promise<unknown> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
    text += chunk;
    if (text.length > maxBytes) throw new RangeError('too long');
  }
  return JSON.parse(text) ?? {};
}

function firstLine(data: Buffer): string {
  return data.subarray(0, 80).toString('latin1').split(/\r?\n/)[0]!;
}
