import { TunnelError } from '../../protocol/errors.ts';
import type { Principal } from './authenticator.ts';
import { InvalidTokenError } from './jwt/claims.ts';
import type { Revocations } from './revocations.ts';

/** The refusal of a token. To the caller all are the same; what was wrong is in the cause, for the log and the audit. */
export function tokenRefusal(cause: unknown): TunnelError {
  return new TunnelError('TOKEN_INVALID', 'the token was not accepted; sign in again', { cause });
}

/** The refusal of a principal that is revoked. */
export function revokedError(): TunnelError {
  return tokenRefusal(new InvalidTokenError('revoked'));
}

/** The only check of an authenticated principal against the revocations. Throws `TOKEN_INVALID`. */
export function refuseRevoked(principal: Principal, revocations: Pick<Revocations, 'isRevoked'>): void {
  if (revocations.isRevoked(principal)) throw revokedError();
}
