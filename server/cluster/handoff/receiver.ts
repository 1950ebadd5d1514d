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
import { ownerMessage, toOwnerMessage } from '../peer-messages.ts';

/** Carries what another process has verified. It is trusted on the socket of an instance, and nowhere else. */
export const handedOverField = 'Postern-Handed-Over';

const handoffPayload = z.object({ holder: ownerMessage, id: z.string(), remoteAddress: z.string() });

/** The facts that the process that received the request passes on. */
export interface HandoffPayload {
  /** The principal that has sent the request, as that process has verified it. */
  readonly holder: TunnelOwner;
  /** Names the request, in both processes. */
  readonly id: string;
  readonly remoteAddress: string;
}

/** The value of the field: JSON in base64url. */
export function formatHandoff({ holder, id, remoteAddress }: HandoffPayload): string {
  const payload = { holder: toOwnerMessage(holder), id, remoteAddress };
  return Buffer.from(JSON.stringify(payload)).toString('base64url');
}

/**
 * Accepts the resume requests that other processes of the gateway hand over. They are looked up among the tunnels of
 * this process only: none is passed on to a third process.
 */
export function acceptHandoffs(server: Server, relays: ResumableTunnels): void {
  const entry = relayEntry('/', () => relays);
  server.on('upgrade', (request: IncomingMessage, stream: Socket, head: Buffer) => {
    stream.on('error', () => {});
    if (head.length > 0) stream.unshift(head);
    stream.setTimeout(0);
    try {
      const { holder, id, remoteAddress } = readHandoff(request);
      const incoming: Incoming = {
        socket: stream,
        remoteAddress,
        peer: connectionPeer(stream),
        id,
        signal: closeSignalOf(stream),
      };
      if (!entry.matches(request)) throw notResume();
      entry.handle(request, incoming, (offer) => void resume(offer, holder, relays));
    } catch (error) {
      refuse(stream, toTunnelError(error), '-', { speaksAs: 'origin' });
    }
  });
}

/** Never rejects. */
async function resume(
  offer: Offer | ResumeOffer,
  owner: TunnelOwner,
  relays: ResumableTunnels,
): Promise<void> {
  let accepted = false;
  try {
    if (offer.kind !== 'resume') throw notResume();
    const tunnel = await localLocator(relays).find(offer.sid, owner);
    const attach = await tunnel.prepare(offer);
    accepted = true;
    await attach();
  } catch (error) {
    if (!accepted) offer.reject(toTunnelError(error));
  }
}

function notResume(): TunnelError {
  return new TunnelError('REQUEST_INVALID', 'not a request to resume a session');
}

function readHandoff({ headers }: IncomingMessage): HandoffPayload {
  try {
    const text = Buffer.from(String(headers[handedOverField.toLowerCase()]), 'base64url').toString();
    return handoffPayload.parse(JSON.parse(text));
  } catch (cause) {
    throw new TunnelError('REQUEST_INVALID', 'this request was not handed over by the gateway', { cause });
  }
}

function closeSignalOf(socket: Socket): AbortSignal {
  const closed = new AbortController();
  socket.once('close', () => closed.abort());
  return closed.signal;
}
