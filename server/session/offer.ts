import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { Credentials } from '../auth/authenticator.ts';

/** What every request says, whether it is for a new tunnel or for one that is there. Nothing in it is trusted. */
export interface PendingRequest {
  /** The name of the entry it came through. */
  readonly entry: string;
  /** Names this request in the answer, the log and the audit. */
  readonly id: string;
  /** The target as the caller wrote it; the pipeline parses it. */
  readonly requested: string;
  readonly credentials: Credentials;
  readonly remoteAddress: string;
  /** Aborted when the caller's connection has closed. */
  readonly signal: AbortSignal;
  /** Says no in this protocol's own words and closes the connection. */
  reject(error: TunnelError): void;
}

/** A request for a tunnel, neither accepted nor refused. */
export interface Offer extends PendingRequest {
  readonly kind: 'open';
  /**
   * Switches protocols and gives the tunnel's byte stream, which the caller then owns.
   * Destroying the stream with an error aborts the tunnel at the peer; ending it is an EOF.
   * Rejects when the socket closes first. Call at most one of `accept` and `reject`, once.
   */
  accept(): Promise<Duplex>;
}

/** A request to go on with a tunnel on another connection, neither accepted nor refused. */
export interface ResumeOffer extends PendingRequest {
  readonly kind: 'resume';
  /** Which tunnel. */
  readonly sid: string;
  /** How far the client has taken what the gateway sent. */
  readonly received: number;
  /** Shows that the tunnel's secret is known; relay v4 has none. */
  readonly proof?: ResumeProof;
  /** Why the client has come, in one of the words of the protocol; for those who count. */
  readonly cause: string;
  /**
   * Switches protocols and gives the connection, which the caller then owns; nothing has been said on it.
   * Rejects when the socket closes first. Call at most one of `accept` and `reject`, once.
   */
  accept(): Promise<Carrier>;
  /**
   * The request as it came, instead of `accept` and `reject`: whoever passes it on to another process owns the socket.
   * Absent where the carrier is not a connection.
   */
  readonly raw?: { readonly request: IncomingMessage; readonly socket: Socket };
}

/** `count` rises with each request, and the MAC is over it: none can be used again. */
export interface ResumeProof {
  readonly count: number;
  readonly mac: string;
}
