import type { Secret } from '../../protocol/secret.ts';

/** What a caller showed to say who it is: a token, nothing, or a header that cannot be read. */
export type Credentials =
  | {
      readonly kind: 'token';
      readonly token: Secret;
      /** How the token came: a bound token counts only with its proof (RFC 9449). */
      readonly proof?: Proof;
    }
  | { readonly kind: 'none' }
  | { readonly kind: 'unreadable' };

/** What a `DPoP` field brought, with the request it must be about (RFC 9449 §4.3). */
export interface Proof {
  readonly jwt: Secret;
  readonly method: string;
  /** The path of the request, without its query. */
  readonly path: string;
}

/** Who asks, as a verified token says. */
export interface Principal {
  readonly issuer: string;
  readonly subject: string;
  readonly groups: ReadonlySet<string>;
  /** The token's own allowlist, as target patterns; it narrows what the rules allow. Absent: no narrowing. */
  readonly targets?: readonly string[];
  /** The token's `jti`, for the audit and for revocation. */
  readonly tokenId?: string;
  /** The sign-in the token comes from (claim `sid`): ending it ends every tunnel opened with it. */
  readonly signInId?: string;
  /** The thumbprint of the key the token is bound to (claim `cnf.jkt`), proven; for a ticket, when it was made. */
  readonly keyThumbprint?: string;
  /**
   * What revocations of a subject go by: the token's `iat`, which often has whole seconds only; for a token of the
   * gateway's own sign-in, when the person showed who they are.
   */
  readonly issuedAt: Date;
  readonly expiresAt: Date;
}

export interface Authenticator {
  /** Throws `TOKEN_MISSING`, `TOKEN_INVALID`, `ISSUER_UNAVAILABLE`, `STORE_UNAVAILABLE`. */
  authenticate(credentials: Credentials): Promise<Principal>;
}
