import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { describe, it } from 'node:test';
import { readCredentials } from '../../../server/entry/credentials.ts';

function shown(field: string | undefined): string {
  const credentials = readCredentials(field);
  return credentials.kind === 'token' ? `token ${credentials.token.reveal()}` : credentials.kind;
}

const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;

const table: [field: string | undefined, is: string][] = [
  [undefined, 'none'],
  ['Bearer abc', 'token abc'],
  ['bearer  abc', 'token abc'],
  [basic('user:abc'), 'token abc'],
  [basic(':abc'), 'token abc'],
  [basic('user:a:b'), 'token a:b'],
  ['', 'unreadable'],
  ['Bearer', 'unreadable'],
  ['Bearer a b', 'unreadable'],
  ['Bearer a, Bearer b', 'unreadable'],
  ['Negotiate abc', 'unreadable'],
  [basic('nocolon'), 'unreadable'],
  [basic('user:'), 'unreadable'],
  ['Basic %%%', 'unreadable'],
];

describe('credentials', () => {
  for (const [field, is] of table) {
    it(`${JSON.stringify(field)} are: ${is}`, () => assert.equal(shown(field), is));
  }

  it('do not print their token', () => {
    const credentials = readCredentials('Bearer canary');
    assert.doesNotMatch(`${JSON.stringify(credentials)} ${inspect(credentials, { depth: 9 })}`, /canary/);
  });
});
