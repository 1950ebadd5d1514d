import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parseChallenges, schemeNames } from '../../../../client/egress/proxy-auth/challenge.ts';

/** A challenge in short: the scheme, its token, its parameters. */
function short(header: string | readonly string[]): readonly (readonly [string, string?, object?])[] {
  return parseChallenges(header).map(({ scheme, token, params }) => [
    scheme,
    token ?? '',
    Object.fromEntries(params),
  ]);
}

const cases: readonly [header: string | readonly string[], found: ReturnType<typeof short>][] = [
  ['Basic realm="a, Digest b"', [['basic', '', { realm: 'a, Digest b' }]]],
  [
    'Negotiate, NTLM, Basic realm="x"',
    [
      ['negotiate', '', {}],
      ['ntlm', '', {}],
      ['basic', '', { realm: 'x' }],
    ],
  ],
  ['NTLM TlRMTVNTUAAC+/8=', [['ntlm', 'TlRMTVNTUAAC+/8=', {}]]],
  [
    'Negotiate oYG2MIGzoAMK, Basic realm=plain',
    [
      ['negotiate', 'oYG2MIGzoAMK', {}],
      ['basic', '', { realm: 'plain' }],
    ],
  ],
  [
    'Digest realm="x", nonce="a=b", qop="auth,auth-int", algorithm=MD5, stale=FALSE',
    [['digest', '', { realm: 'x', nonce: 'a=b', qop: 'auth,auth-int', algorithm: 'MD5', stale: 'FALSE' }]],
  ],
  [
    'Digest realm="x",nonce="1",algorithm=SHA-256,Digest realm="x",nonce="2"',
    [
      ['digest', '', { realm: 'x', nonce: '1', algorithm: 'SHA-256' }],
      ['digest', '', { realm: 'x', nonce: '2' }],
    ],
  ],
  ['Digest realm = "x", nonce = "y"', [['digest', '', { realm: 'x', nonce: 'y' }]]],
  [String.raw`Basic realm="say \"hi\" \\ now"`, [['basic', '', { realm: String.raw`say "hi" \ now` }]]],
  ['Basic realm="one", realm="two"', [['basic', '', { realm: 'one' }]]],
  ['Basic realm="open', [['basic', '', {}]]],
  [' , ,, Basic ,', [['basic', '', {}]]],
  [
    ['Negotiate', 'Basic realm="x"'],
    [
      ['negotiate', '', {}],
      ['basic', '', { realm: 'x' }],
    ],
  ],
  ['', []],
  ['realm="x"', []],
  ['\x1b[31m', []],
];

describe('parseChallenges()', () => {
  for (const [header, found] of cases) {
    it(`reads ${JSON.stringify(header)}`, () => assert.deepEqual(short(header), found));
  }

  it('any text gives challenges whose schemes are words, and takes no time', () => {
    const words = ['Digest ', 'NTLM', ',', ' ', '"', '\\', '=', 'realm="', 'a', '\t', '\u0000', 'x='];
    const text = fc.array(fc.constantFrom(...words), { maxLength: 400 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(fc.oneof(text, fc.string({ maxLength: 400 })), (header) => {
        for (const { scheme } of parseChallenges(header)) assert.match(scheme, /^[a-z][a-z0-9-]*$/);
      }),
      { numRuns: 5000 },
    );
    for (const part of ['"\\', 'a=', ' ', '"', 'Basic ', 'a']) {
      const startedAt = performance.now();
      parseChallenges(part.repeat(16_384));
      // Four orders of magnitude above what it takes: this is about loops that never come to an end.
      assert.ok(performance.now() - startedAt < 20_000, part);
    }
  });
});

describe('schemeNames()', () => {
  it('writes them as people know them, each once', () => {
    const offers = parseChallenges('NTLM, negotiate, Basic realm=x, BASIC realm=y, X-Thing');
    assert.deepEqual(schemeNames(offers), ['NTLM', 'Negotiate', 'Basic', 'x-thing']);
  });
});
