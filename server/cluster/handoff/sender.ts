import { STATUS_CODES, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { onAbort, withDeadline } from '../../../base/deadline.ts';
import { TunnelError, isTunnelErrorCode } from '../../../protocol/errors.ts';
import { formatResponseHead } from '../../../protocol/http-head.ts';
import { relayV1, relayV1Subprotocol } from '../../../protocol/relay-v1.ts';
import { webSocketCarrier } from '../../../stream/websocket-carrier.ts';
import type { Carrier } from '../../../stream/carrier.ts';
import type { ResumeOffer } from '../../session/offer.ts';
import { bridge } from '../../../stream/bridge.ts';
import type { TunnelOwner } from '../../resume/tunnel-locator.ts';
import { readJson } from '../peer-client.ts';
import { peerVersion, peerVersionField, refusalMessage } from '../peer-messages.ts';
import { formatHandoff, handedOverField } from './receiver.ts';

/** The fields of a handshake that the owner of the tunnel has to see; tokens and proofs stay here. */
const passedFields = [
  'upgrade',
  'connection',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'postern-rejoin',
] as const;

/** The owner of a tunnel is on this machine: one that takes longer has stopped, or is overloaded. */
const responseMs = 5000;
const maxRefusalBytes = 16 * 1024;

/** The connections that go through this process to the owners of their tunnels. */
export class ConnectionHandoff {
  readonly #open = new Set<Promise<unknown>>();
  readonly #closed = new AbortController();

  get count(): number {
    return this.#open.size;
  }

  /**
   * Has the process behind `socketPath` resume the tunnel on the offer's connection. Resolves to the function that tells
   * the client, and copies bytes from then on. Rejects with the owner's refusal.
   */
  async prepare(socketPath: string, offer: ResumeOffer, holder: TunnelOwner): Promise<() => Promise<void>> {
    const { raw } = offer;
    if (raw === undefined) return this.#prepareByFrames(socketPath, offer, holder);
    const { owner, head } = await requestOwner(socketPath, { offer, holder, request: raw.request });
    return async () => {
      if (offer.signal.aborted) {
        owner.destroy();
        throw clientClosed();
      }
      raw.socket.write(head);
      this.#track(bridge(raw.socket, owner, this.#closed.signal));
    };
  }

  /** For a client that has no connection that could be passed on: its frames are. */
  async #prepareByFrames(
    socketPath: string,
    offer: ResumeOffer,
    holder: TunnelOwner,
  ): Promise<() => Promise<void>> {
    const owner = await openOwner(socketPath, offer, holder);
    return async () => {
      try {
        this.#track(bridgeCarriers(await offer.accept(), owner, this.#closed.signal));
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

  /** Breaks all of them off; their clients resume them elsewhere. */
  close(): void {
    this.#closed.abort();
  }
}

interface OwnerRequest {
  readonly offer: ResumeOffer;
  readonly holder: TunnelOwner;
  readonly request: IncomingMessage;
}

/** Passes the client's handshake on. Resolves to the connection to the owner, and the head of its response. */
function requestOwner(
  socketPath: string,
  { offer, holder, request }: OwnerRequest,
): Promise<{ readonly owner: Socket; readonly head: string }> {
  const headers = {
    host: 'localhost',
    ...Object.fromEntries(passedFields.flatMap((name) => fieldOf(request.headers, name))),
    ...handoffFields(offer, holder),
  };
  const send = (signal: AbortSignal): Promise<{ readonly owner: Socket; readonly head: string }> =>
    new Promise((resolve, reject) => {
      const toOwner = httpRequest({
        path: pathFor(offer),
        headers,
        signal,
        // An EOF of one side is not the end of the other; an agent would make connections of its own.
        createConnection: () => connect({ path: socketPath, allowHalfOpen: true }),
      });
      toOwner.on('error', (error) => reject(unreachable(error)));
      toOwner.once('response', (response) => void refusalIn(response).then(reject));
      toOwner.once('upgrade', (response, owner: Socket, early) => {
        // Node.js has taken its own away.
        owner.on('error', () => {});
        if (early.length > 0) owner.unshift(early);
        resolve({ owner, head: headOf(response) });
      });
      toOwner.end();
    });
  return withDeadline(offer.signal, responseMs, send, failures);
}

/** The errors of a wait for an owner. */
const failures = {
  onTimeout: (): Error => unreachable(),
  onAborted: (): Error => unreachable(clientClosed()),
};

function clientClosed(): Error {
  return new Error('the client went away');
}

function pathFor({ sid, received }: ResumeOffer): string {
  return `/v4/reconnect?${new URLSearchParams({ sid, ack: String(received) }).toString()}`;
}

function handoffFields({ id, remoteAddress }: ResumeOffer, holder: TunnelOwner): Record<string, string> {
  return {
    [peerVersionField]: String(peerVersion),
    [handedOverField]: formatHandoff({ holder, id, remoteAddress }),
  };
}

/** A carrier of our own to the owner of a tunnel, for a client that has none that could be passed on. */
function openOwner(socketPath: string, offer: ResumeOffer, holder: TunnelOwner): Promise<Carrier> {
  const { proof, cause } = offer;
  if (proof === undefined) throw new TypeError('a carrier without a connection is of postern.relay.v1');
  const open = (signal: AbortSignal): Promise<Carrier> => {
    const socket = new WebSocket(`ws://localhost${pathFor(offer)}`, [relayV1Subprotocol], {
      createConnection: () => connect({ path: socketPath }),
      headers: {
        'Postern-Rejoin': `count=${proof.count}, mac=${proof.mac}, cause=${cause}`,
        ...handoffFields(offer, holder),
      },
      maxPayload: 64 * 1024,
      perMessageDeflate: false,
    });
    onAbort(signal, () => socket.terminate());
    return new Promise((resolve, reject) => {
      socket.once('unexpected-response', (_request, response) => {
        void refusalIn(response)
          .then(reject)
          .finally(() => socket.terminate());
      });
      // After a refusal it comes too late to change anything.
      socket.on('error', (error) => reject(unreachable(error)));
      socket.once('open', () => resolve(webSocketCarrier(socket, relayV1)));
    });
  };
  return withDeadline(offer.signal, responseMs, open, failures);
}

/** Passes frames on both ways until one side ends; the close code and reason of one side go to the other. */
function bridgeCarriers(client: Carrier, owner: Carrier, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    let hasEnded = false;
    let removeListener: (() => void) | undefined;
    const pass = (from: Carrier, to: Carrier): void =>
      from.listen({
        // The windows of the tunnel limit what waits here.
        frame: (frame) => to.send(frame),
        drained() {},
        ended(end) {
          hasEnded = true;
          removeListener?.();
          if (end.how === 'closed') to.close(end.code, end.reason);
          else to.drop();
          resolve();
        },
      });
    pass(owner, client);
    pass(client, owner);
    if (hasEnded) return;
    removeListener = onAbort(signal, () => {
      client.drop();
      owner.drop();
      resolve();
    });
  });
}

function fieldOf(headers: IncomingHttpHeaders, name: string): [string, string][] {
  const value = headers[name];
  return value === undefined ? [] : [[name, String(value)]];
}

/** The head of the owner's response, for the client. */
function headOf({ rawHeaders }: IncomingMessage): string {
  const fields: [string, string][] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) fields.push([rawHeaders[at]!, rawHeaders[at + 1]!]);
  return formatResponseHead(101, STATUS_CODES[101]!, fields);
}

/** Never rejects. */
async function refusalIn(response: IncomingMessage): Promise<TunnelError> {
  try {
    const { code, detail } = refusalMessage.parse(await readJson(response, maxRefusalBytes));
    return isTunnelErrorCode(code) ? new TunnelError(code, detail) : unreachable();
  } catch (cause) {
    return unreachable(cause);
  }
}

/** The refusal when it is unknown whether the tunnel exists: `TUNNEL_UNREACHABLE`. The client tries again. */
export function unreachable(cause?: unknown): TunnelError {
  return new TunnelError('TUNNEL_UNREACHABLE', 'the gateway process that has this session does not answer', {
    cause,
  });
}
