import type { IncomingMessage } from 'node:http';
import { TunnelError } from '../../protocol/errors.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { Challenge } from '../auth/authenticator.ts';
import { tunnelNotFound } from '../resume/tunnel-locator.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import { readProvenCredentials } from './credentials.ts';
import type { Exchange, OnOffer, PlainEntry } from './entry.ts';
import { HttpCarriers } from './http-carrier.ts';
import type { InboundHttpCarrier, ResponseStyle } from './http-carrier.ts';
import { refuseRequest } from './refusal.ts';
import { parseRelayRequest, readResume } from './relay-request.ts';
import { targetInQuery } from './request-target.ts';

const responseStyles: Readonly<Record<string, ResponseStyle>> = { down: 'streaming', brief: 'brief' };

/** The requests of an open carrier, by the last segment of their path, with their methods. */
export const carrierRequestMethods = { down: 'GET', brief: 'GET', up: 'POST' } as const;

/** A request of a carrier, with the response that is still to be sent. */
export interface Carried {
  /** The last segment of its path: a key of `carrierRequestMethods`. */
  readonly direction: string;
  readonly exchange: Pick<Exchange, 'response' | 'id'>;
}

/** The carriers of the other processes of the gateway. */
export interface PeerCarriers {
  /**
   * Passes a request on to the process that the carrier's id names, which answers it. Throws `TUNNEL_GONE` when it names
   * none; the caller then still owns the response.
   */
  pass(id: string, request: IncomingMessage, carried: Carried): void;
}

export interface HttpEntryParts {
  readonly tunnels: () => ResumableTunnels;
  readonly carriers?: HttpCarriers | undefined;
  readonly peers?: PeerCarriers | undefined;
}

/**
 * Tunnels by requests and responses alone, for networks that let no upgrade pass (docs/entry/http.md): `POST
 * {prefix}http/connect` and `POST {prefix}http/reconnect` open a carrier, `GET {prefix}http/down` and `GET
 * {prefix}http/brief` fetch what the gateway sends, `POST {prefix}http/up` brings what the client sends. The pipeline
 * decides about the first two; the others are signed with a secret that only the client of the carrier has received.
 */
export function httpEntry(
  prefix: string,
  { tunnels, carriers = new HttpCarriers(), peers }: HttpEntryParts,
): PlainEntry {
  const base = `${prefix}http/`;

  return {
    name: 'http',
    routes: [
      { method: 'POST', path: 'http/connect' },
      { method: 'POST', path: 'http/reconnect' },
      { method: 'GET', path: 'http/down' },
      { method: 'GET', path: 'http/brief' },
      { method: 'POST', path: 'http/up', mayHaveBody: true },
    ],
    handle(request, exchange, onOffer) {
      const [path = ''] = request.url!.split('?');
      const direction = path.slice(base.length);
      if (peers !== undefined && Object.hasOwn(carrierRequestMethods, direction)) {
        const { id } = readCarrierField(request);
        if (carriers.find(id) === undefined) return peers.pass(id, request, { direction, exchange });
      }
      if (direction === 'up') return receive(request, exchange, carriers);
      const style = responseStyles[direction];
      if (style === undefined) return offer(request, exchange, { base, carriers, tunnels, onOffer });
      const { carrier, number } = signedCarrier(request, direction, carriers);
      if (!carrier.expectsResponse(number)) throw outOfTurn();
      carrier.respond(exchange.response, style);
    },
  };
}

interface OfferParts {
  readonly base: string;
  readonly carriers: HttpCarriers;
  readonly tunnels: () => ResumableTunnels;
  readonly onOffer: OnOffer;
}

function offer(
  request: IncomingMessage,
  { response, id, remoteAddress, peer, signal }: Exchange,
  { base, carriers, tunnels, onOffer }: OfferParts,
): void {
  const wanted = parseRelayRequest(request.url, base)!;
  const accept = async (): Promise<Carrier> => {
    signal.throwIfAborted();
    const carrier = carriers.open();
    carrier.respond(response, 'brief');
    return carrier;
  };
  const common = {
    entry: 'http',
    id,
    credentials: readProvenCredentials(request),
    remoteAddress,
    peer,
    signal,
    reject: (error: TunnelError, challenge?: Challenge) => refuseRequest(response, error, id, challenge),
  };
  if (wanted.kind === 'connect') {
    const open = async () => tunnels().open(id, await accept(), { isPlain: false });
    onOffer({ ...common, kind: 'open', requested: targetInQuery(wanted.query), accept: open });
  } else {
    const resume = readResume(wanted.query, request.headers, { isProven: true });
    onOffer({ ...common, kind: 'resume', requested: '', ...resume, accept });
  }
}

function receive(request: IncomingMessage, { response, id }: Exchange, carriers: HttpCarriers): void {
  const { carrier, number } = signedCarrier(request, 'up', carriers);
  if (!carrier.expectsRequest(number)) throw outOfTurn();
  carrier.read(request).then(
    () => response.writeHead(204, { 'Cache-Control': 'no-store' }).end(),
    (cause: unknown) =>
      refuseRequest(
        response,
        new TunnelError('REQUEST_INVALID', 'the body of the request cannot be read', { cause }),
        id,
      ),
  );
}

/**
 * The carrier of a request, `Postern-Carrier: id=…, n=3, mac=…`. Throws the same `TUNNEL_GONE` for an unknown carrier and
 * for a wrong signature, and `REQUEST_INVALID` for a field that cannot be read.
 */
function signedCarrier(
  request: IncomingMessage,
  direction: string,
  carriers: HttpCarriers,
): { readonly carrier: InboundHttpCarrier; readonly number: number } {
  const { id, number, mac } = readCarrierField(request);
  const carrier = carriers.find(id);
  if (carrier === undefined || !carrier.isSigned(direction, number, mac)) throw tunnelNotFound();
  return { carrier, number };
}

function readCarrierField({ headers }: IncomingMessage): {
  readonly id: string;
  readonly number: number;
  readonly mac: string;
} {
  const [, id, number, mac] =
    /^id=([\w-]{22}), n=(0|[1-9][0-9]{0,14}), mac=([\w-]{43})$/.exec(String(headers['postern-carrier'])) ??
    [];
  if (id === undefined || number === undefined || mac === undefined)
    throw new TunnelError('REQUEST_INVALID', 'the field Postern-Carrier cannot be read');
  return { id, number: Number(number), mac };
}

/** The refusal of a request that an intermediary has repeated or reordered. The carrier lives on. */
function outOfTurn(): TunnelError {
  return new TunnelError('REJOIN_INVALID', 'this sequence number was used before, or is not the next one');
}
