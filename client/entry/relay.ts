import { createHmac } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { RejoinCause } from '../../protocol/rejoin-cause.ts';
import type { RelayGreeting, RelayOpened } from '../../protocol/relay-frame.ts';
import { relayV1, relayV1Subprotocol } from '../../protocol/relay-v1.ts';
import { webSocketCarrier } from '../../stream/relay-carrier.ts';
import type { Carrier } from '../../stream/relay-carrier.ts';
import type { Egress } from '../egress/egress.ts';
import { Failure } from '../failure.ts';
import { Resumption } from '../resume/resumption.ts';
import type { Rejoin, Rejoined } from '../resume/resumption.ts';
import { passHeaders } from '../token/pass.ts';
import { gatewayTarget } from './entry.ts';
import type { ClientEntry, Later, ShownPass, TunnelRequest } from './entry.ts';
import { openWebSocket } from './websocket.ts';

/** The tunnel that outlives its connections (docs/entry/relay.md). */
export const relay: ClientEntry = {
  name: 'relay',
  async open(request, egress, signal) {
    const { host, port } = request.target;
    const url = new URL(`${request.gateway.pathname}v4/connect`, request.gateway);
    url.search = new URLSearchParams({ host, port: String(port) }).toString();
    const headers = passHeaders(request, 'GET', url);
    const { carrier, greeting } = await openCarrier(url, { request, headers, egress, signal });
    if (greeting.kind !== 'opened') throw notExpected(request, carrier);
    return resumable(carrier, greeting, { request, egress });
  },
};

/** The stream comes back by itself from now on. */
function resumable(
  carrier: Carrier,
  opened: RelayOpened,
  { request, egress }: { readonly request: TunnelRequest; readonly egress: Egress },
): Duplex {
  const { sid, secret, windowBytes, keepMs, carrierMs } = opened;
  if (secret === undefined || windowBytes === undefined || keepMs === undefined)
    throw notExpected(request, carrier);
  const later: Later = request.later ?? { withPass: (_signal, use) => use(request), say() {} };
  const resumption = new Resumption({
    windowBytes,
    keepMs,
    ...(carrierMs !== undefined && { carrierMs }),
    ...(later.ages && { ages: later.ages }),
    ...(later.watch && { watch: later.watch }),
    say: (line) => later.say(line),
    rejoin: (asked, signal) =>
      later.withPass(signal, (pass) => rejoin(asked, { pass, sid, secret, request, egress, signal })),
  });
  return resumption.start(carrier);
}

interface RejoinParts {
  readonly pass: ShownPass;
  readonly sid: string;
  readonly secret: string;
  readonly request: TunnelRequest;
  readonly egress: Egress;
  readonly signal: AbortSignal;
}

async function rejoin(
  { received, cause, nextCount, onConnected }: Rejoin,
  parts: RejoinParts,
): Promise<Rejoined> {
  const { pass, sid, secret, request, egress, signal } = parts;
  const url = new URL(`${request.gateway.pathname}v4/reconnect`, request.gateway);
  const headers = {
    ...passHeaders(pass, 'GET', url),
    'Postern-Rejoin': rejoinField({ sid, secret, received, count: nextCount(), cause }),
  };
  url.search = new URLSearchParams({ sid, ack: String(received) }).toString();
  const { carrier, greeting } = await openCarrier(url, { request, headers, egress, signal, onConnected });
  if (greeting.kind !== 'joined') throw notExpected(request, carrier);
  return { carrier, joined: greeting };
}

/** Shows that we know the secret, without showing it, for this one request. */
export function rejoinField(what: {
  readonly sid: string;
  readonly secret: string;
  readonly received: number;
  readonly count: number;
  readonly cause: RejoinCause;
}): string {
  const { sid, secret, received, count, cause } = what;
  const mac = createHmac('sha256', Buffer.from(secret, 'latin1'))
    .update(`postern-rejoin\n${sid}\n${count}\n${received}`)
    .digest('base64url');
  return `count=${count}, mac=${mac}, cause=${cause}`;
}

interface CarrierParts {
  readonly request: TunnelRequest;
  readonly headers: Readonly<Record<string, string>>;
  readonly egress: Egress;
  readonly signal: AbortSignal;
  readonly onConnected?: () => void;
}

/** Opens a connection and waits for its greeting. The caller owns the carrier. Throws as `ClientEntry.open` does. */
async function openCarrier(
  url: URL,
  { request, headers, egress, signal, onConnected }: CarrierParts,
): Promise<{ readonly carrier: Carrier; readonly greeting: RelayGreeting }> {
  const socket = await egress.connect(gatewayTarget(request.gateway), signal);
  onConnected?.();
  return openWebSocket(socket, { url, subprotocol: relayV1Subprotocol, headers, signal }, (webSocket) =>
    greeted(webSocketCarrier(webSocket, relayV1, socket), request, signal),
  );
}

function greeted(
  carrier: Carrier,
  request: TunnelRequest,
  signal: AbortSignal,
): Promise<{ readonly carrier: Carrier; readonly greeting: RelayGreeting }> {
  return new Promise((resolve, reject) => {
    const late = (): void => {
      carrier.drop();
      reject(new Failure('GATEWAY_TIMEOUT', `${request.gateway.host} did not answer in time`));
    };
    const stop = (): void => signal.removeEventListener('abort', late);
    signal.addEventListener('abort', late, { once: true });
    if (signal.aborted) late();
    carrier.listen({
      frame(frame) {
        stop();
        if (frame.kind !== 'opened' && frame.kind !== 'joined') return reject(notExpected(request, carrier));
        // More may follow before there is a tunnel to take it.
        carrier.hold();
        resolve({ carrier, greeting: frame });
      },
      drained() {},
      ended() {
        stop();
        reject(
          new Failure('HTTP_UNEXPECTED', `${request.gateway.host} closed the connection without a greeting`),
        );
      },
    });
  });
}

function notExpected({ gateway }: TunnelRequest, carrier: Carrier): Failure {
  carrier.drop();
  return new Failure('UPGRADE_REFUSED', `${gateway.host} does not keep to the protocol of the relay`);
}
