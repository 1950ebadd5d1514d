import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Secret } from '../../../protocol/secret.ts';
import { TunnelError } from '../../../protocol/errors.ts';
import { authenticatorChain } from '../../../server/auth/authenticator-chain.ts';
import type { Authenticator, Challenge, OfferCredential } from '../../../server/auth/authenticator.ts';
import { jwtAuthenticator } from '../../../server/auth/jwt/jwt-authenticator.ts';
import { ticketAuthenticator } from '../../../server/auth/ticket-authenticator.ts';
import { loopbackContext } from '../support/gateway-parts.ts';
import { alice } from '../support/pipeline-parts.ts';

const noChallenge: Challenge = { origin: [], proxy: [] };
const token: OfferCredential = { kind: 'token', token: new Secret('a token') };
const ticket: OfferCredential = { kind: 'ticket', ticket: new Secret('pt_a') };

function accepting(kind: OfferCredential['kind'], subject: string): Authenticator {
  return { kinds: [kind], challenge: noChallenge, authenticate: async () => ({ ...alice, subject }) };
}

function refusing(kind: OfferCredential['kind']): Authenticator {
  return {
    kinds: [kind],
    challenge: noChallenge,
    authenticate: () => Promise.reject(new TunnelError('TOKEN_INVALID', 'a test')),
  };
}

describe('authenticatorChain()', () => {
  it('leaves a credential to the authenticator of its kind', async () => {
    const chain = authenticatorChain([accepting('ticket', 'bob'), accepting('token', 'carol')]);
    assert.equal((await chain.authenticate([token], loopbackContext)).subject, 'carol');
  });

  it('leaves several credentials to the first authenticator that recognises one', async () => {
    const chain = authenticatorChain([accepting('ticket', 'bob'), accepting('token', 'carol')]);
    assert.equal((await chain.authenticate([token, ticket], loopbackContext)).subject, 'bob');
  });

  it('does not ask the next one when the first refuses', async () => {
    const chain = authenticatorChain([refusing('ticket'), accepting('token', 'carol')]);
    await assert.rejects(chain.authenticate([token, ticket], loopbackContext), { code: 'TOKEN_INVALID' });
  });

  it('hands on what is known of the connection', async () => {
    let seen: unknown;
    const chain = authenticatorChain([
      {
        ...accepting('token', 'carol'),
        authenticate: async (_credentials, context) => {
          seen = context;
          return alice;
        },
      },
    ]);
    await chain.authenticate([token], loopbackContext);
    assert.equal(seen, loopbackContext);
  });

  it('refuses no credentials with TOKEN_MISSING', async () => {
    await assert.rejects(
      authenticatorChain([accepting('token', 'carol')]).authenticate([], loopbackContext),
      {
        code: 'TOKEN_MISSING',
      },
    );
  });

  for (const credential of [ticket, { kind: 'unreadable' } as const]) {
    it(`refuses a credential of a kind that none recognises (${credential.kind}) with TOKEN_INVALID`, async () => {
      const chain = authenticatorChain([accepting('token', 'carol')]);
      await assert.rejects(chain.authenticate([credential], loopbackContext), { code: 'TOKEN_INVALID' });
    });
  }

  it('names each challenge once, in the order that the gateway has always sent', () => {
    const tickets = ticketAuthenticator({ redeem: async () => alice });
    assert.deepEqual(authenticatorChain([tickets, jwtAuthenticator([])]).challenge, {
      origin: ['Bearer realm="postern"', 'DPoP algs="ES256 EdDSA"'],
      proxy: ['Bearer realm="postern"', 'Basic realm="postern", charset="UTF-8"'],
    });
  });
});
