import { TunnelError } from '../../protocol/errors.ts';
import type { Authenticator, Challenge, OfferCredential } from './authenticator.ts';
import { InvalidTokenError } from './jwt/claims.ts';
import { tokenRefusal } from './token-refusal.ts';

/**
 * Authenticators in order: the first that recognises one of the credentials decides alone, whether it accepts or refuses.
 * The challenge is those of all of them, each scheme once.
 */
export function authenticatorChain(authenticators: readonly Authenticator[]): Authenticator {
  return {
    kinds: [...new Set(authenticators.flatMap(({ kinds }) => kinds))],
    challenge: joinChallenges(authenticators.map(({ challenge }) => challenge)),
    async authenticate(credentials, context) {
      const authenticator = authenticators.find(({ kinds }) =>
        credentials.some(({ kind }) => kinds.includes(kind)),
      );
      if (authenticator === undefined) throw unrecognized(credentials);
      return authenticator.authenticate(credentials, context);
    },
  };
}

/** The refusal of a request without any credential (`TOKEN_MISSING`), or with none that is recognised (`TOKEN_INVALID`). */
export function unrecognized(credentials: readonly OfferCredential[]): TunnelError {
  if (credentials.length === 0) return new TunnelError('TOKEN_MISSING', 'a token is needed; sign in first');
  const isUnreadable = credentials.some(({ kind }) => kind === 'unreadable');
  const why = isUnreadable
    ? 'the header cannot be read'
    : `not accepted here: ${credentials.map(({ kind }) => kind).join(', ')}`;
  return tokenRefusal(new InvalidTokenError(why));
}

function joinChallenges(challenges: readonly Challenge[]): Challenge {
  return {
    origin: [...new Set(challenges.flatMap(({ origin }) => origin))],
    proxy: [...new Set(challenges.flatMap(({ proxy }) => proxy))],
  };
}
