import type { IncomingMessage } from 'node:http';
import { WebSocketServer } from 'ws';
import { TunnelError } from '../../protocol/errors.ts';
import type { RelayCodec } from '../../protocol/relay-frame.ts';
import { relayV1, relayV1Subprotocol } from '../../protocol/relay-v1.ts';
import { relayV4, relayV4Subprotocols } from '../../protocol/relay-v4.ts';
import { inboundWebSocketCarrier } from '../../stream/zero-copy/inbound-websocket-carrier.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { Challenge } from '../auth/authenticator.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import { readProvenCredentials } from './credentials.ts';
import type { RequestEntry } from './entry.ts';
import { refuse } from './refusal.ts';
import { parseRelayRequest, readResume } from './relay-request.ts';
import type { RelayRequest } from './relay-request.ts';
import { targetInQuery } from './request-target.ts';
import { acceptWebSocket, checkHandshake, subprotocols, webSocketOptions } from './websocket.ts';

/** 64 KiB of data, and the header of DATA in relay v4. */
const maxMessageBytes = 64 * 1024 + 16;

/**
 * `GET {prefix}v4/connect?host=…&port=…` and `GET {prefix}v4/reconnect?sid=…&ack=…` with `Upgrade: websocket`: tunnels
 * that outlive their connections, by relay v4 or, with the subprotocol `postern.relay.v1`, by a protocol of our own.
 */
export function relayEntry(prefix: string, tunnels: () => ResumableTunnels): RequestEntry {
  const server = new WebSocketServer({
    ...webSocketOptions,
    maxPayload: maxMessageBytes,
    handleProtocols: (offered) => chooseSubprotocol(offered) ?? false,
  });
  const relayRequestOf = (url: string | undefined): RelayRequest | undefined =>
    parseRelayRequest(url, `${prefix}v4/`);

  return {
    name: 'relay',
    upgrades: ['websocket'],
    matches: (request) => relayRequestOf(request.url) !== undefined,
    handle(request, { socket, id, remoteAddress, peer, signal }, onOffer) {
      checkHandshake(request);
      const codec = codecOf(request);
      const accept = (): Promise<Carrier> =>
        acceptWebSocket(server, { request, socket, signal }, (webSocket) =>
          inboundWebSocketCarrier(webSocket, codec, socket),
        );
      const common = {
        entry: 'relay',
        id,
        credentials: readProvenCredentials(request),
        remoteAddress,
        peer,
        signal,
        reject: (error: TunnelError, challenge?: Challenge) =>
          refuse(socket, error, id, { speaksAs: 'origin', challenge }),
      };
      const wanted = relayRequestOf(request.url)!;
      if (wanted.kind === 'connect') {
        const isPlain = codec === relayV4;
        const open = async () => tunnels().open(id, await accept(), { isPlain });
        onOffer({ ...common, kind: 'open', requested: targetInQuery(wanted.query), accept: open });
      } else {
        onOffer({
          ...common,
          kind: 'resume',
          requested: '',
          ...readResume(wanted.query, request.headers, { isProven: codec === relayV1 }),
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

/** The codec of the subprotocol that the request offers. Throws `REQUEST_INVALID` when there is none. */
function codecOf(request: IncomingMessage): RelayCodec {
  const chosen = chooseSubprotocol(new Set(subprotocols(request)));
  if (chosen === undefined)
    throw new TunnelError('REQUEST_INVALID', `the relay supports ${relayV1Subprotocol} and relay v4`);
  return chosen === relayV1Subprotocol ? relayV1 : relayV4;
}
