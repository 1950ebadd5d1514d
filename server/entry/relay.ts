import type { IncomingMessage } from 'node:http';
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';
import { TunnelError } from '../../protocol/errors.ts';
import type { RelayCodec } from '../../protocol/relay-frame.ts';
import { relayV1, relayV1Subprotocol } from '../../protocol/relay-v1.ts';
import { relayV4, relayV4Subprotocols } from '../../protocol/relay-v4.ts';
import { inboundWebSocketCarrier } from '../../stream/zero-copy/inbound-websocket-carrier.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import { readProvenCredentials } from './credentials.ts';
import type { Incoming, RequestEntry } from './entry.ts';
import { refuse } from './refusal.ts';
import { parseRelayRequest, readResume, targetIn } from './relay-request.ts';
import type { RelayRequest } from './relay-request.ts';
import { checkHandshake, subprotocols, webSocketOptions } from './websocket.ts';

/** The header of DATA in relay v4 comes on top. */
const maxMessageBytes = 64 * 1024 + 16;

/**
 * `GET {prefix}v4/connect?host=…&port=…` and `GET {prefix}v4/reconnect?sid=…&ack=…` with `Upgrade: websocket`: tunnels
 * that outlive their connections, by relay v4 or, with the subprotocol `postern.relay.v1`, in words of our own.
 */
export function relayEntry(prefix: string, relays: () => ResumableTunnels): RequestEntry {
  const server = new WebSocketServer({
    ...webSocketOptions,
    maxPayload: maxMessageBytes,
    handleProtocols: (offered) => chooseSubprotocol(offered) ?? false,
  });
  const relayRequestOf = (url: string | undefined): RelayRequest | undefined => parseRelayRequest(url, `${prefix}v4/`);

  return {
    name: 'relay',
    upgrades: ['websocket'],
    matches: (request) => relayRequestOf(request.url) !== undefined,
    handle(request, incoming, onOffer) {
      const { socket, id, remoteAddress, signal } = incoming;
      checkHandshake(request);
      const codec = codecOf(request);
      const accept = (): Promise<Carrier> => switchTo(server, request, { incoming, codec });
      const common = {
        entry: 'relay',
        id,
        credentials: readProvenCredentials(request),
        remoteAddress,
        signal,
        reject: (error: TunnelError) => refuse(socket, error, id, { speaksAs: 'origin' }),
      };
      const what = relayRequestOf(request.url)!;
      if (what.kind === 'connect') {
        const isPlain = codec === relayV4;
        const open = async () => relays().open(id, await accept(), { isPlain });
        onOffer({ ...common, kind: 'open', requested: targetIn(what.query), accept: open });
      } else {
        onOffer({
          ...common,
          kind: 'resume',
          requested: '',
          ...readResume(what.query, request.headers, { isProven: codec === relayV1 }),
          accept,
          raw: { request, socket },
        });
      }
    },
  };
}

function chooseSubprotocol(offered: ReadonlySet<string>): string | undefined {
  return [relayV1Subprotocol, ...relayV4Subprotocols].find((name) => offered.has(name));
}

/** Throws `REQUEST_INVALID` for a subprotocol that is none of ours. */
function codecOf(request: IncomingMessage): RelayCodec {
  const chosen = chooseSubprotocol(new Set(subprotocols(request)));
  if (chosen === undefined)
    throw new TunnelError('REQUEST_INVALID', `the relay speaks ${relayV1Subprotocol} and relay v4`);
  return chosen === relayV1Subprotocol ? relayV1 : relayV4;
}

function switchTo(
  server: WebSocketServer,
  request: IncomingMessage,
  { incoming, codec }: { readonly incoming: Incoming; readonly codec: RelayCodec },
): Promise<Carrier> {
  const { socket, signal } = incoming;
  return new Promise((resolve, reject) => {
    // `handleUpgrade` calls back only when the handshake succeeds.
    const gone = (): void => reject(new Error('the client went away'));
    if (signal.aborted) return gone();
    signal.addEventListener('abort', gone, { once: true });
    server.handleUpgrade(request, socket, Buffer.alloc(0), (webSocket: WebSocket) =>
      resolve(inboundWebSocketCarrier(webSocket, codec, socket)),
    );
  });
}
