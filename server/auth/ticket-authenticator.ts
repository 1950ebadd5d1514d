import { TunnelError } from '../../protocol/errors.ts';
import { unrecognized } from './authenticator-chain.ts';
import type { Authenticator } from './authenticator.ts';
import { InvalidTokenError } from './jwt/claims.ts';
import type { Tickets } from './tickets.ts';

/** Accepts tickets, each as often as it can be used. To the caller a refused ticket looks like a refused token. */
export function ticketAuthenticator(tickets: Pick<Tickets, 'redeem'>): Authenticator {
  return {
    kinds: ['ticket'],
    challenge: {
      origin: ['Bearer realm="postern"'],
      proxy: ['Bearer realm="postern"', 'Basic realm="postern", charset="UTF-8"'],
    },
    async authenticate(credentials) {
      const credential = credentials.find((each) => each.kind === 'ticket');
      if (credential === undefined) throw unrecognized(credentials);
      try {
        if (credential.proof) throw new InvalidTokenError('DPoP: a ticket is not bound to a key');
        return await tickets.redeem(credential.ticket.reveal());
      } catch (cause) {
        if (!(cause instanceof InvalidTokenError)) throw cause;
        throw new TunnelError('TOKEN_INVALID', 'the ticket was not accepted; get a new one', { cause });
      }
    },
  };
}
