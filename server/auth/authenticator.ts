import type { X509Certificate } from 'node:crypto';
import type { Secret } from '../../protocol/secret.ts';

/**
 * One credential that a request presents. A new kind is one more member here, read by the entries that can carry it, and
 * one authenticator that recognises it.
 */
export type OfferCredential = TokenCredential | TicketCredential | UnreadableCredential;

export type OfferCredentialKind = OfferCredential['kind'];

/** A bearer token, or a token with its proof (RFC 9449). */
export interface TokenCredential {
  readonly kind: 'token';
  readonly token: Secret;
  /** A token that is bound to a key is accepted only with its proof. */
  readonly proof?: Proof;
}

/** A ticket, presented as a bearer token or a password. */
export interface TicketCredential {
  readonly kind: 'ticket';
  readonly ticket: Secret;
  /** A ticket is bound to no key: one that comes with a proof is refused. */
  readonly proof?: Proof;
}

/** An `Authorization` or `Proxy-Authorization` field that cannot be read. */
export interface UnreadableCredential {
  readonly kind: 'unreadable';
}

/** The content of a `DPoP` field, with the request that it must be about (RFC 9449 §4.3). */
export interface Proof {
  readonly jwt: Secret;
  readonly method: string;
  /** The path of the request, without its query. */
  readonly path: string;
}

/** The connection that a request came on, as the kernel and TLS report it: nothing here is from a header. */
export interface ConnectionPeer {
  /** The other end of the connection, which can be a proxy; undefined on a unix socket. */
  readonly address: string | undefined;
  /** Where the connection was accepted; undefined on a unix socket. */
  readonly localAddress: string | undefined;
  /** The certificate that the peer has presented. The authenticator that trusts it must verify it. */
  readonly certificate?: X509Certificate;
}

/** The facts about a request besides its credentials. */
export interface AuthenticationContext {
  readonly peer: ConnectionPeer;
}

/** The values of the challenge fields of a refusal (RFC 9110 §11.6.1, §11.7.1), one for each authentication scheme. */
export interface Challenge {
  /** For `WWW-Authenticate`, with a 401. */
  readonly origin: readonly string[];
  /** For `Proxy-Authenticate`, with a 407. */
  readonly proxy: readonly string[];
}

/** The authenticated caller. */
export interface Principal {
  readonly issuer: string;
  readonly subject: string;
  readonly groups: ReadonlySet<string>;
  /** The token's own allowlist, as target patterns; it narrows what the rules allow. Absent: no narrowing. */
  readonly targets?: readonly string[];
  /** The token's `jti`, for the audit and for revocation. */
  readonly tokenId?: string;
  /** The sign-in that the token comes from (claim `sid`): ending it ends every tunnel opened with it. */
  readonly signInId?: string;
  /** The thumbprint of the key that the token is bound to (claim `cnf.jkt`), proven; for a ticket, proven when it was made. */
  readonly keyThumbprint?: string;
  /**
   * The time that revocations of a subject are compared with: the token's `iat`, which often has whole seconds only; for a
   * token of the gateway's own sign-in, the time at which the person authenticated.
   */
  readonly issuedAt: Date;
  /** `issuedAt` is by the gateway's own clock. Absent: the clock of another machine can be ahead of it. */
  readonly ownClock?: true;
  readonly expiresAt: Date;
}

export interface Authenticator {
  /** The kinds of credentials that it recognises. It ignores all others. */
  readonly kinds: readonly OfferCredentialKind[];
  /** How a client can present such credentials. */
  readonly challenge: Challenge;
  /**
   * Authenticates the credentials of a request, which can be empty. Rejects with `TOKEN_MISSING`, `TOKEN_INVALID`,
   * `ISSUER_UNAVAILABLE`, `STORE_UNAVAILABLE`.
   */
  authenticate(credentials: readonly OfferCredential[], context: AuthenticationContext): Promise<Principal>;
}
