import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Offer, ResumeOffer } from '../session/offer.ts';

/** Called once for most connections; an entry that multiplexes calls it per tunnel. */
export type OnOffer = (offer: Offer | ResumeOffer) => void;

/** A connection that asks for something, with what the listener already knows about it. */
export interface Incoming {
  /** Has an `error` listener; its early bytes have been put back. */
  readonly socket: Socket;
  /** The caller's address: the peer, or what a trusted proxy says of it. */
  readonly remoteAddress: string;
  readonly id: string;
  /** Aborted when the socket has closed. */
  readonly signal: AbortSignal;
}

/** An entry that is reached by an HTTP request: an upgrade or a CONNECT. */
export interface RequestEntry {
  readonly name: string;
  /** The tokens of the `Upgrade` header this entry answers to; empty for CONNECT. */
  readonly upgrades: readonly string[];
  matches(request: IncomingMessage): boolean;
  /** Takes the connection over: the entry then owns `incoming.socket`. Throws a TunnelError, and takes nothing, for a request it cannot read. */
  handle(request: IncomingMessage, incoming: Incoming, onOffer: OnOffer): void;
}

/** A request that is no upgrade, with its answer still to be given. */
export interface Exchange extends Omit<Incoming, 'socket'> {
  readonly response: ServerResponse;
}

/** An entry that is reached by ordinary HTTP requests, of which a tunnel takes many. */
export interface PlainEntry {
  readonly name: string;
  /** What it answers to, with paths below the prefix. */
  readonly routes: readonly {
    readonly method: 'GET' | 'POST';
    readonly path: string;
    readonly mayHaveBody?: boolean;
  }[];
  /** Takes the exchange over. Throws a TunnelError, and takes nothing, for a request it cannot read or does not expect. */
  handle(request: IncomingMessage, exchange: Exchange, onOffer: OnOffer): void;
}
