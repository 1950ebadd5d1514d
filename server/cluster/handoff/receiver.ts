import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import { z } from 'zod';
import { TunnelError, toTunnelError } from '../../../protocol/errors.ts';
import type { Incoming } from '../../entry/entry.ts';
import { refuse } from '../../entry/refusal.ts';
import { connectionPeer } from '../../http/client-address.ts';
import { relayEntry } from '../../entry/relay.ts';
import { localLocator } from '../../resume/local-locator.ts';
import type { TunnelOwner } from '../../resume/tunnel-locator.ts';
import type { ResumableTunnels } from '../../resume/resumable-tunnels.ts';
import type { Offer, ResumeOffer } from '../../session/offer.ts';

/** Says what another process has verified. It is believed on the socket of an instance, and nowhere else. */
export const handedOverField = 'Postern-Handed-Over';

/** What the process that took the request knows of it. */
export interface HandedOver {
  readonly holder: TunnelOwner;
  /** Names the request, in both processes. */
  readonly id: string;
  readonly remoteAddress: string;
}

export const holderShape = z.strictObject({
  issuer: z.string(),
  subject: z.string(),
  keyThumbprint: z.string().optional(),
});

const receiveHandoff = z.strictObject({ holder: holderShape, id: z.string(), remoteAddress: z.string() });

/** A holder as it came over a socket. */
export function holderOf({ keyThumbprint, ...who }: z.output<typeof holderShape>): TunnelOwner {
  return { ...who, ...(keyThumbprint !== undefined && { keyThumbprint }) };
}

/** As the value of the field. */
export function formatHandedOver({ holder, id, remoteAddress }: HandedOver): string {
  const { issuer, subject, keyThumbprint } = holder;
  return Buffer.from(
    JSON.stringify({ holder: { issuer, subject, keyThumbprint }, id, remoteAddress }),
  ).toString('base64url');
}

/**
 * Takes the requests to go on that other processes of the gateway hand over. Only tunnels of this process are looked
 * for: none goes on to a third one.
 */
export function takeHandedOver(server: Server, relays: ResumableTunnels): void {
  const entry = relayEntry('/', () => relays);
  server.on('upgrade', (request: IncomingMessage, stream: Socket, head: Buffer) => {
    stream.on('error', () => {});
    if (head.length > 0) stream.unshift(head);
    stream.setTimeout(0);
    try {
      const { holder, id, remoteAddress } = readHandedOver(request);
      const incoming: Incoming = {
        socket: stream,
        remoteAddress,
        peer: connectionPeer(stream),
        id,
        signal: closing(stream),
      };
      if (!entry.matches(request)) throw new TunnelError('REQUEST_INVALID', 'this is no request to go on');
      entry.handle(request, incoming, (offer) => void resume(offer, holder, relays));
    } catch (error) {
      refuse(stream, toTunnelError(error), '-', { speaksAs: 'origin' });
    }
  });
}

/** Never rejects. */
async function resume(
  offer: Offer | ResumeOffer,
  holder: TunnelOwner,
  relays: ResumableTunnels,
): Promise<void> {
  let accepted = false;
  try {
    if (offer.kind !== 'resume') throw new TunnelError('REQUEST_INVALID', 'this is no request to go on');
    const tunnel = await localLocator(relays).find(offer.sid, holder);
    const attach = await tunnel.prepare(offer);
    accepted = true;
    await attach();
  } catch (error) {
    if (!accepted) offer.reject(toTunnelError(error));
  }
}

function readHandedOver({ headers }: IncomingMessage): HandedOver {
  try {
    const text = Buffer.from(String(headers[handedOverField.toLowerCase()]), 'base64url').toString();
    const { holder, ...rest } = receiveHandoff.parse(JSON.parse(text));
    return { ...rest, holder: holderOf(holder) };
  } catch (cause) {
    throw new TunnelError('REQUEST_INVALID', 'this request was not handed over by the gateway', { cause });
  }
}

function closing(socket: Socket): AbortSignal {
  const closed = new AbortController();
  socket.once('close', () => closed.abort());
  return closed.signal;
}
