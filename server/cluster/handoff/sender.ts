import { STATUS_CODES, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { TunnelError, isTunnelErrorCode } from '../../../protocol/errors.ts';
import { formatResponseHead } from '../../../protocol/http-head.ts';
import { relayV1, relayV1Subprotocol } from '../../../protocol/relay-v1.ts';
import { webSocketCarrier } from '../../../stream/websocket-carrier.ts';
import type { Carrier } from '../../../stream/carrier.ts';
import type { ResumeOffer } from '../../session/offer.ts';
import { bridge } from '../../../stream/bridge.ts';
import type { TunnelOwner } from '../../resume/tunnel-locator.ts';
import { readJson } from '../peer-client.ts';
import { formatHandedOver, handedOverField } from './receiver.ts';

/** What the owner of the tunnel has to see of a handshake; tokens and proofs stay here. */
const passedFields = [
  'upgrade',
  'connection',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'postern-rejoin',
] as const;

/** The owner of a tunnel is this machine's neighbour: who takes longer has stopped, or is overloaded. */
const answerMs = 5000;
const maxRefusalBytes = 16 * 1024;

/** The connections that go through this process to the owners of their tunnels. */
export class ConnectionHandoff {
  readonly #open = new Set<Promise<unknown>>();
  readonly #over = new AbortController();

  get count(): number {
    return this.#open.size;
  }

  /**
   * Asks the process behind `socketPath` to go on with the tunnel on the offer's connection. Resolves to what tells the
   * client, and copies from then on. Rejects with the owner's refusal.
   */
  async prepare(socketPath: string, offer: ResumeOffer, holder: TunnelOwner): Promise<() => Promise<void>> {
    const { raw } = offer;
    if (raw === undefined) return this.#prepareByFrames(socketPath, offer, holder);
    const { owner, head } = await askOwner(socketPath, { offer, holder, request: raw.request });
    return async () => {
      if (offer.signal.aborted) {
        owner.destroy();
        throw new Error('the client went away');
      }
      raw.socket.write(head);
      this.#track(bridge(raw.socket, owner, this.#over.signal));
    };
  }

  /** Where the client has no connection that could be passed on, its frames are. */
  async #prepareByFrames(
    socketPath: string,
    offer: ResumeOffer,
    holder: TunnelOwner,
  ): Promise<() => Promise<void>> {
    const owner = await openOwner(socketPath, offer, holder);
    return async () => {
      try {
        this.#track(bridgeCarriers(await offer.accept(), owner, this.#over.signal));
      } catch (error) {
        owner.drop();
        throw error;
      }
    };
  }

  #track(open: Promise<unknown>): void {
    this.#open.add(open);
    void open.then(() => this.#open.delete(open));
  }

  /** Resolves when none is left. */
  async empty(): Promise<void> {
    while (this.#open.size > 0) await Promise.all(this.#open);
  }

  /** Breaks all of them off; their clients come back. */
  close(): void {
    this.#over.abort();
  }
}

interface Asking {
  readonly offer: ResumeOffer;
  readonly holder: TunnelOwner;
  readonly request: IncomingMessage;
}

function askOwner(
  socketPath: string,
  { offer, holder, request }: Asking,
): Promise<{ readonly owner: Socket; readonly head: string }> {
  const asking = httpRequest({
    path: pathFor(offer),
    headers: {
      host: 'localhost',
      ...Object.fromEntries(passedFields.flatMap((name) => passed(request.headers, name))),
      [handedOverField]: formatHandedOver({ holder, id: offer.id, remoteAddress: offer.remoteAddress }),
    },
    // An EOF of one side is not the end of the other; an agent would make connections of its own.
    createConnection: () => connect({ path: socketPath, allowHalfOpen: true }),
  });
  return new Promise((resolve, reject) => {
    const giveUp = (error: Error): void => void asking.destroy(error);
    const late = setTimeout(() => giveUp(unreachable()), answerMs);
    const gone = (): void => giveUp(new Error('the client went away'));
    offer.signal.addEventListener('abort', gone, { once: true });
    const settle = (): void => {
      clearTimeout(late);
      offer.signal.removeEventListener('abort', gone);
    };
    asking.once('error', (error) => {
      settle();
      reject(error instanceof TunnelError ? error : unreachable(error));
    });
    asking.once('response', (response) => {
      refusalIn(response).then(reject, reject).finally(settle);
    });
    asking.once('upgrade', (response, owner: Socket, early) => {
      settle();
      // Node.js has taken its own away.
      owner.on('error', () => {});
      if (early.length > 0) owner.unshift(early);
      resolve({ owner, head: headOf(response) });
    });
    asking.end();
  });
}

function pathFor({ sid, received }: ResumeOffer): string {
  return `/v4/reconnect?${new URLSearchParams({ sid, ack: String(received) }).toString()}`;
}

/** A carrier of our own to the owner of a tunnel, for a client that has none that could be passed on. */
function openOwner(socketPath: string, offer: ResumeOffer, holder: TunnelOwner): Promise<Carrier> {
  const { id, remoteAddress, proof, cause, signal } = offer;
  if (proof === undefined) throw new TypeError('a carrier without a connection is of postern.relay.v1');
  const socket = new WebSocket(`ws://localhost${pathFor(offer)}`, [relayV1Subprotocol], {
    createConnection: () => connect({ path: socketPath }),
    headers: {
      'Postern-Rejoin': `count=${proof.count}, mac=${proof.mac}, cause=${cause}`,
      [handedOverField]: formatHandedOver({ holder, id, remoteAddress }),
    },
    maxPayload: 64 * 1024,
    perMessageDeflate: false,
  });
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => socket.terminate(), answerMs);
    const gone = (): void => socket.terminate();
    signal.addEventListener('abort', gone, { once: true });
    const settle = (): void => {
      clearTimeout(late);
      signal.removeEventListener('abort', gone);
    };
    socket.once('unexpected-response', (_request, response) => {
      refusalIn(response)
        .then(reject, reject)
        .finally(() => socket.terminate());
    });
    // After a refusal it comes too late to change anything.
    socket.on('error', (error) => reject(unreachable(error)));
    socket.once('close', settle);
    socket.once('open', () => {
      settle();
      resolve(webSocketCarrier(socket, relayV1));
    });
  });
}

/** Passes frames on both ways until one side ends; how it ended is told to the other, where it was told at all. */
function bridgeCarriers(client: Carrier, owner: Carrier, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const breakOff = (): void => {
      client.drop();
      owner.drop();
      resolve();
    };
    signal.addEventListener('abort', breakOff, { once: true });
    const pass = (from: Carrier, to: Carrier): void =>
      from.listen({
        // The windows of the tunnel limit what waits here.
        frame: (frame) => to.send(frame),
        drained() {},
        ended(end) {
          signal.removeEventListener('abort', breakOff);
          if (end.how === 'closed') to.close(end.code, end.reason);
          else to.drop();
          resolve();
        },
      });
    pass(owner, client);
    pass(client, owner);
    if (signal.aborted) breakOff();
  });
}

function passed(headers: IncomingHttpHeaders, name: string): [string, string][] {
  const value = headers[name];
  return value === undefined ? [] : [[name, String(value)]];
}

/** The owner's words to the client, without what is about this connection only. */
function headOf({ rawHeaders }: IncomingMessage): string {
  const fields: [string, string][] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) fields.push([rawHeaders[at]!, rawHeaders[at + 1]!]);
  return formatResponseHead(101, STATUS_CODES[101]!, fields);
}

async function refusalIn(response: IncomingMessage): Promise<TunnelError> {
  try {
    const { code, detail } = (await readJson(response, maxRefusalBytes)) as {
      code?: unknown;
      detail?: unknown;
    };
    if (isTunnelErrorCode(code) && typeof detail === 'string') return new TunnelError(code, detail);
    return unreachable();
  } catch (cause) {
    return unreachable(cause);
  }
}

/** The tunnel may be there; nobody knows. The client tries again. */
export function unreachable(cause?: unknown): TunnelError {
  return new TunnelError(
    'TUNNEL_UNREACHABLE',
    'the process of the gateway that has this session does not answer',
    { cause },
  );
}
