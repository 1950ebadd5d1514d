import { TunnelError } from '../../protocol/errors.ts';
import type { Authenticator } from './authenticator.ts';
import { InvalidTokenError } from './jwt/claims.ts';
import { isTicketFormat } from './tickets.ts';
import type { Tickets } from './tickets.ts';

/** Believes tickets, and whatever `tokens` believes. To the caller a refused ticket looks like a refused token. */
export function gatewayAuthenticator(tokens: Authenticator, tickets: Pick<Tickets, 'redeem'>): Authenticator {
  return {
    async authenticate(credentials) {
      if (credentials.kind !== 'token' || !isTicketFormat(credentials.token.reveal()))
        return tokens.authenticate(credentials);
      try {
        if (credentials.proof) throw new InvalidTokenError('DPoP: a ticket is not bound to a key');
        return await tickets.redeem(credentials.token.reveal());
      } catch (cause) {
        if (!(cause instanceof InvalidTokenError)) throw cause;
        throw new TunnelError('TOKEN_INVALID', 'the ticket was not accepted; get a new one', { cause });
      }
    },
  };
}
