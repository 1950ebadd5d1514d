import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { describe, it } from 'node:test';
import type { OfferCredential } from '../../../server/auth/authenticator.ts';
import { readCredentials, readProvenCredentials } from '../../../server/entry/credentials.ts';

function describeAll(credentials: readonly OfferCredential[]): string {
  return credentials.map(describeOne).join(', ') || 'none';
}

function describeOne(credential: OfferCredential): string {
  if (credential.kind === 'unreadable') return 'unreadable';
  const { kind, proof } = credential;
  const secret = kind === 'token' ? credential.token : credential.ticket;
  const about = proof ? ` ${proof.jwt.reveal()} ${proof.method} ${proof.path}` : '';
  return `${kind} ${secret.reveal()}${about}`;
}

const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;

const table: [field: string | undefined, is: string][] = [
  [undefined, 'none'],
  ['Bearer abc', 'token abc'],
  ['bearer  abc', 'token abc'],
  [basic('user:abc'), 'token abc'],
  [basic(':abc'), 'token abc'],
  [basic('user:a:b'), 'token a:b'],
  ['Bearer pt_abc', 'ticket pt_abc'],
  [basic('user:pt_abc'), 'ticket pt_abc'],
  ['', 'unreadable'],
  ['Bearer', 'unreadable'],
  ['Bearer a b', 'unreadable'],
  ['Bearer a, Bearer b', 'unreadable'],
  ['Negotiate abc', 'unreadable'],
  [basic('nocolon'), 'unreadable'],
  [basic('user:'), 'unreadable'],
  ['Basic %%%', 'unreadable'],
];

const proven: [headers: Record<string, string>, is: string][] = [
  [{}, 'none'],
  [{ authorization: 'Bearer abc' }, 'token abc'],
  [{ authorization: 'DPoP abc', dpop: 'proof' }, 'token abc proof GET /ssh/tcp/box/22/'],
  [{ authorization: 'dpop abc', dpop: 'proof' }, 'token abc proof GET /ssh/tcp/box/22/'],
  [{ authorization: 'DPoP pt_abc', dpop: 'proof' }, 'ticket pt_abc proof GET /ssh/tcp/box/22/'],
  [{ authorization: 'DPoP abc' }, 'unreadable'],
  [{ authorization: 'DPoP abc', dpop: '' }, 'unreadable'],
  [{ authorization: 'DPoP', dpop: 'proof' }, 'unreadable'],
  [{ dpop: 'proof' }, 'unreadable'],
  [{ authorization: 'Bearer abc', dpop: 'proof' }, 'unreadable'],
  [{ authorization: basic('user:abc'), dpop: 'proof' }, 'unreadable'],
];

describe('credentials with a proof', () => {
  for (const [headers, is] of proven) {
    it(`${JSON.stringify(headers)} are: ${is}`, () => {
      const found = readProvenCredentials({ method: 'GET', url: '/ssh/tcp/box/22/?a=b', headers });
      assert.equal(describeAll(found), is);
    });
  }
});

describe('credentials', () => {
  for (const [field, is] of table) {
    it(`${JSON.stringify(field)} are: ${is}`, () => assert.equal(describeAll(readCredentials(field)), is));
  }

  it('do not print their token', () => {
    const credentials = readCredentials('Bearer canary');
    assert.doesNotMatch(`${JSON.stringify(credentials)} ${inspect(credentials, { depth: 9 })}`, /canary/);
  });
});
