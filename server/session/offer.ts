import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Carrier } from '../../stream/carrier.ts';
import type { Challenge, ConnectionPeer, OfferCredential } from '../auth/authenticator.ts';

/** The common part of a request for a new tunnel and of one to resume a tunnel. Nothing in it is trusted but `peer`. */
export interface PendingRequest {
  /** The name of the entry that it came through. */
  readonly entry: string;
  /** Names this request in the answer, the log and the audit. */
  readonly id: string;
  /** The target as the client wrote it; the pipeline parses it. Empty for a resume. */
  readonly requested: string;
  /** The credentials that it presents; empty when there are none. */
  readonly credentials: readonly OfferCredential[];
  /** The client's address: that of the peer, or what a trusted proxy reports. */
  readonly remoteAddress: string;
  readonly peer: ConnectionPeer;
  /** Aborted when the client's connection has closed. */
  readonly signal: AbortSignal;
  /**
   * Refuses in the form of its protocol and closes the connection. `challenge` is for an error of status 401: how the
   * client can authenticate.
   */
  reject(error: TunnelError, challenge?: Challenge): void;
}

/** A request for a new tunnel, neither accepted nor refused. */
export interface Offer extends PendingRequest {
  readonly kind: 'open';
  /** Called when the request is allowed, before the target is dialled, for an entry that tells its client so. */
  allowed?(): void;
  /**
   * Switches protocols and resolves to the tunnel's byte stream, which the caller then owns.
   * Destroying the stream with an error aborts the tunnel at the client; ending it is an EOF.
   * Rejects when the socket closes first. Call at most one of `accept` and `reject`, once.
   */
  accept(): Promise<Duplex>;
}

/** A request to resume a tunnel on another connection, neither accepted nor refused. */
export interface ResumeOffer extends PendingRequest {
  readonly kind: 'resume';
  /** The id of the tunnel. */
  readonly sid: string;
  /** The position up to which the client has received what the gateway sent, in bytes. */
  readonly received: number;
  /** Proves knowledge of the tunnel's secret; relay v4 has none. */
  readonly proof?: ResumeProof;
  /** Why the client resumes, in one of the words of the protocol; for metrics. */
  readonly cause: string;
  /**
   * Switches protocols and resolves to the connection, which the caller then owns; nothing has been sent on it.
   * Rejects when the socket closes first. Call at most one of `accept` and `reject`, once.
   */
  accept(): Promise<Carrier>;
  /**
   * The request as it came, to be passed on to another process, instead of `accept` and `reject`: the caller then owns
   * the socket. Absent where the carrier is not a connection.
   */
  readonly raw?: { readonly request: IncomingMessage; readonly socket: Socket };
}

/** `count` rises with each request, and the MAC covers it: no proof can be used again. */
export interface ResumeProof {
  readonly count: number;
  readonly mac: string;
}
