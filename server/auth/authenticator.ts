import type { Secret } from '../../protocol/secret.ts';

/** What a caller showed to say who it is: a token, nothing, or a header that cannot be read. */
export type Credentials =
  | { readonly kind: 'token'; readonly token: Secret }
  | { readonly kind: 'none' }
  | { readonly kind: 'unreadable' };

/** Who asks, as a verified token says. */
export interface Principal {
  readonly issuer: string;
  readonly subject: string;
  readonly groups: ReadonlySet<string>;
  /** The token's own allowlist, as target patterns; it narrows what the rules allow. Absent: no narrowing. */
  readonly targets?: readonly string[];
  /** The token's `jti`, for the audit and for revocation. */
  readonly tokenId?: string;
  readonly expiresAt: Date;
}

export interface Authenticator {
  /** Throws `TOKEN_MISSING`, `TOKEN_INVALID`, `ISSUER_UNAVAILABLE`. */
  authenticate(credentials: Credentials): Promise<Principal>;
}
