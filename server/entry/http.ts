import type { IncomingMessage } from 'node:http';
import { TunnelError } from '../../protocol/errors.ts';
import type { Carrier } from '../../stream/carrier.ts';
import { tunnelNotFound } from '../resume/tunnel-locator.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import { readProvenCredentials } from './credentials.ts';
import type { Exchange, OnOffer, PlainEntry } from './entry.ts';
import { HttpCarriers } from './http-carrier.ts';
import type { AnswerStyle, InboundHttpCarrier } from './http-carrier.ts';
import { refuseRequest } from './refusal.ts';
import { parseRelayRequest, readResume, targetIn } from './relay-request.ts';

const answerStyles: Readonly<Record<string, AnswerStyle>> = { down: 'streaming', brief: 'brief' };

/** The requests that belong to a carrier which is there. */
export const carrierRequestMethods = { down: 'GET', brief: 'GET', up: 'POST' } as const;

/** A request for a carrier, and its answer, which is still to be given. */
export interface Carried {
  readonly direction: string;
  readonly exchange: Pick<Exchange, 'response' | 'id'>;
}

/** The carriers that other processes of the gateway have. */
export interface PeerCarriers {
  /** Has the process answer that the id names. Throws `TUNNEL_GONE`, and takes nothing, when it names none. */
  pass(id: string, request: IncomingMessage, carried: Carried): void;
}

/**
 * Tunnels by requests and answers alone, for what lets no upgrade pass (docs/entry/http.md): `POST {prefix}http/connect`
 * and `POST {prefix}http/reconnect` open a carrier, `GET {prefix}http/down` and `GET {prefix}http/brief` fetch what the
 * gateway sends, `POST {prefix}http/up` brings what the client sends. The first two are for the pipeline to judge; the
 * others are signed with a secret that only the client of the carrier was told.
 */
export function httpEntry(
  prefix: string,
  relays: () => ResumableTunnels,
  carriers: HttpCarriers = new HttpCarriers(),
  peers?: PeerCarriers,
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
      const way = path.slice(base.length);
      if (peers !== undefined && Object.hasOwn(carrierRequestMethods, way)) {
        const { id } = readCarrierField(request);
        if (carriers.find(id) === undefined) return peers.pass(id, request, { direction: way, exchange });
      }
      if (way === 'up') return up(request, exchange, carriers);
      const style = answerStyles[way];
      if (style === undefined) return offer(request, exchange, { base, carriers, relays, onOffer });
      const { carrier, number } = signedFor(request, way, carriers);
      if (!carrier.expectsAnswer(number)) throw outOfTurn();
      carrier.answer(exchange.response, style);
    },
  };
}

interface OfferParts {
  readonly base: string;
  readonly carriers: HttpCarriers;
  readonly relays: () => ResumableTunnels;
  readonly onOffer: OnOffer;
}

function offer(
  request: IncomingMessage,
  { response, id, remoteAddress, signal }: Exchange,
  { base, carriers, relays, onOffer }: OfferParts,
): void {
  const what = parseRelayRequest(request.url, base)!;
  const accept = async (): Promise<Carrier> => {
    signal.throwIfAborted();
    const carrier = carriers.open();
    carrier.answer(response, 'brief');
    return carrier;
  };
  const common = {
    entry: 'http',
    id,
    credentials: readProvenCredentials(request),
    remoteAddress,
    signal,
    reject: (error: TunnelError) => refuseRequest(response, error, id),
  };
  if (what.kind === 'connect') {
    const open = async () => relays().open(id, await accept(), { isPlain: false });
    onOffer({ ...common, kind: 'open', requested: targetIn(what.query), accept: open });
  } else {
    const resume = readResume(what.query, request.headers, { isProven: true });
    onOffer({ ...common, kind: 'resume', requested: '', ...resume, accept });
  }
}

function up(request: IncomingMessage, { response, id }: Exchange, carriers: HttpCarriers): void {
  const { carrier, number } = signedFor(request, 'up', carriers);
  if (!carrier.expectsRequest(number)) throw outOfTurn();
  carrier.read(request).then(
    () => response.writeHead(204, { 'Cache-Control': 'no-store' }).end(),
    (cause: unknown) =>
      refuseRequest(response, new TunnelError('REQUEST_INVALID', 'its body cannot be read', { cause }), id),
  );
}

/**
 * The carrier of a request, `Postern-Carrier: id=…, n=3, mac=…`. Throws `TUNNEL_GONE` alike for a carrier that is not
 * there and for a signature that is wrong, `REQUEST_INVALID` for a field that cannot be read.
 */
function signedFor(
  request: IncomingMessage,
  way: string,
  carriers: HttpCarriers,
): { readonly carrier: InboundHttpCarrier; readonly number: number } {
  const { id, number, mac } = readCarrierField(request);
  const carrier = carriers.find(id);
  if (carrier === undefined || !carrier.isSigned(way, number, mac)) throw tunnelNotFound();
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

/** A request that something on the way has repeated, or let overtake. The carrier does not suffer from it. */
function outOfTurn(): TunnelError {
  return new TunnelError('REJOIN_INVALID', 'this number was used before, or is not due');
}
