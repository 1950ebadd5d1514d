import { STATUS_CODES, request as httpRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { TunnelError, isTunnelErrorCode } from '../../protocol/errors.ts';
import { formatResponseHead } from '../../protocol/http-head.ts';
import type { RejoinOffer } from '../entry/entry.ts';
import { bridge } from '../../stream/bridge.ts';
import type { Holder } from '../tunnel/rejoinable.ts';
import { readJson } from './ask.ts';
import { formatHandedOver, handedOverField } from './handed-over.ts';

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
export class HandOvers {
  readonly #open = new Set<Promise<unknown>>();
  readonly #over = new AbortController();

  get count(): number {
    return this.#open.size;
  }

  /**
   * Asks the process behind `socketPath` to go on with the tunnel on the offer's connection. Resolves to what tells the
   * client, and copies from then on. Rejects with the owner's refusal.
   */
  async prepare(socketPath: string, offer: RejoinOffer, holder: Holder): Promise<() => Promise<void>> {
    const { owner, head } = await askOwner(socketPath, offer, holder);
    return async () => {
      const client = offer.raw.socket;
      if (offer.signal.aborted) {
        owner.destroy();
        throw new Error('the client went away');
      }
      client.write(head);
      const open = bridge(client, owner, this.#over.signal);
      this.#open.add(open);
      void open.then(() => this.#open.delete(open));
    };
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

function askOwner(
  socketPath: string,
  offer: RejoinOffer,
  holder: Holder,
): Promise<{ readonly owner: Socket; readonly head: string }> {
  const { request } = offer.raw;
  const asking = httpRequest({
    path: `/v4/reconnect?${new URLSearchParams({ sid: offer.sid, ack: String(offer.received) }).toString()}`,
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
