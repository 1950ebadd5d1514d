import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionPeer } from '../auth/authenticator.ts';
import type { Offer, ResumeOffer } from '../session/offer.ts';

/** Called once for most connections; an entry that multiplexes calls it for each tunnel. */
export type OnOffer = (offer: Offer | ResumeOffer) => void;

/** A connection with a request, and what the listener already knows about it. */
export interface Incoming {
  /** Has an `error` listener; its early bytes have been put back. */
  readonly socket: Socket;
  /** The client's address: that of the peer, or what a trusted proxy reports. */
  readonly remoteAddress: string;
  readonly peer: ConnectionPeer;
  readonly id: string;
  /** Aborted when the socket has closed. */
  readonly signal: AbortSignal;
}

/** An entry that is reached by an HTTP request: an upgrade or a CONNECT. */
export interface RequestEntry {
  readonly name: string;
  /** The tokens of the `Upgrade` header that this entry accepts; empty for CONNECT. */
  readonly upgrades: readonly string[];
  matches(request: IncomingMessage): boolean;
  /**
   * Takes the connection over: the entry then owns `incoming.socket`. Throws a TunnelError for a request that it cannot
   * read; the caller then still owns the socket.
   */
  handle(request: IncomingMessage, incoming: Incoming, onOffer: OnOffer): void;
}

/** A request that is no upgrade, with the response that is still to be sent. */
export interface Exchange extends Omit<Incoming, 'socket'> {
  readonly response: ServerResponse;
}

/** An entry that is reached by ordinary HTTP requests, of which a tunnel needs many. */
export interface PlainEntry {
  readonly name: string;
  /** The requests that it answers, with paths below the prefix. */
  readonly routes: readonly {
    readonly method: 'GET' | 'POST';
    readonly path: string;
    readonly mayHaveBody?: boolean;
  }[];
  /**
   * Takes the exchange over. Throws a TunnelError for a request that it cannot read or does not expect; the caller then
   * still owns the response.
   */
  handle(request: IncomingMessage, exchange: Exchange, onOffer: OnOffer): void;
}
