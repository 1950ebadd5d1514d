import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { JWK } from 'jose';
import { TunnelError } from '../../../../protocol/errors.ts';
import { Secret } from '../../../../protocol/secret.ts';
import type { Principal } from '../../../../server/auth/authenticator.ts';
import { fixedKeys } from '../../../../server/auth/jwt/jwks-cache.ts';
import type { KeySource } from '../../../../server/auth/jwt/jwks-cache.ts';
import { jwtAuthenticator } from '../../../../server/auth/jwt/jwt-authenticator.ts';
import type { TrustedIssuer } from '../../../../server/auth/jwt/jwt-authenticator.ts';
import { loopbackContext } from '../../support/gateway-parts.ts';

const numRuns = Number(process.env['POSTERN_FUZZ_RUNS'] ?? 200);
const nowMs = 1_800_000_000_000;
const now = nowMs / 1000;

const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const shortRsa = generateKeyPairSync('rsa', { modulusLength: 1024 });
const okp = generateKeyPairSync('ed25519');
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });

function jwk(key: KeyObject, extra: JWK): JWK {
  return { ...(key.export({ format: 'jwk' }) as JWK), ...extra };
}

const keys = fixedKeys({
  keys: [
    jwk(ec.publicKey, { kid: 'ec', alg: 'ES256', use: 'sig' }),
    jwk(shortRsa.publicKey, { kid: 'short' }),
    jwk(rsa.publicKey, { kid: 'rsa' }),
    jwk(okp.publicKey, { kid: 'okp' }),
    jwk(stranger.publicKey, { kid: 'encryption', use: 'enc' }),
  ],
});

const issuer: TrustedIssuer = {
  issuer: 'https://id.example',
  audience: 'postern',
  algorithms: ['ES256', 'RS256', 'EdDSA'],
  groupsClaim: 'groups',
  maxLifetimeMs: 24 * 3_600_000,
  keys,
};
const typed: TrustedIssuer = { ...issuer, issuer: 'https://typed.example', typ: 'at+jwt' };
const odd: TrustedIssuer = {
  ...issuer,
  issuer: 'https://odd.example',
  groupsClaim: '__proto__',
  keys: fixedKeys({ keys: [] }),
};
const authenticator = jwtAuthenticator([issuer, typed, odd], { now: () => nowMs });

type Json = Record<string, unknown>;

const header: Json = { alg: 'ES256', typ: 'JWT', kid: 'ec' };
const claims: Json = { iss: issuer.issuer, aud: 'postern', sub: 'alice', iat: now - 60, exp: now + 3600 };

const encode = (value: string | Buffer) => Buffer.from(value).toString('base64url');

/** A token of any header and payload text, signed by the key as the algorithm says. */
function signText(head: string, payload: string | Buffer, key: KeyObject = ec.privateKey): string {
  const input = `${encode(head)}.${encode(payload)}`;
  const hash = key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
  return `${input}.${sign(hash, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

function token(head: Json = {}, body: Json = {}, key?: KeyObject): string {
  return signText(JSON.stringify({ ...header, ...head }), JSON.stringify({ ...claims, ...body }), key);
}

function authenticate(text: string): Promise<Principal> {
  return authenticator.authenticate([{ kind: 'token', token: new Secret(text) }], loopbackContext);
}

/** What the caller sees of every refused token. */
const refusal = {
  name: 'TunnelError',
  code: 'TOKEN_INVALID',
  message: 'the token was not accepted; sign in again',
};

describe('jwtAuthenticator() accepts', () => {
  const good: readonly (readonly [string, string])[] = [
    ['ES256', token()],
    ['RS256', token({ alg: 'RS256', kid: 'rsa' }, {}, rsa.privateKey)],
    ['EdDSA', token({ alg: 'EdDSA', kid: 'okp' }, {}, okp.privateKey)],
    ['no kid', token({ kid: undefined })],
    ['no kid, beside a key that is too short', token({ alg: 'RS256', kid: undefined }, {}, rsa.privateKey)],
    ['no typ', token({ typ: undefined })],
    ['typ at+jwt', token({ typ: 'at+jwt' })],
    ['typ application/at+jwt', token({ typ: 'application/AT+JWT' })],
    ['a typ that is demanded', token({ typ: 'at+JWT' }, { iss: typed.issuer })],
    ['several audiences', token({}, { aud: ['other', 'postern'] })],
    ['exp within the skew', token({}, { exp: now - 29, iat: now - 60 })],
    ['iat within the skew', token({}, { iat: now + 30 })],
    ['nbf within the skew', token({}, { nbf: now + 30 })],
    [
      'a key of its own, unread',
      token({ jwk: jwk(ec.publicKey, {}), jku: 'http://127.0.0.1:1/', x5u: 'x', x5c: ['x'] }),
    ],
    [
      'members named __proto__ and constructor',
      signWithMembers('"__proto__":{"sub":"root"},"constructor":{"a":1}'),
    ],
    ['the longest lifetime', token({}, { iat: now, exp: now + 24 * 3600 })],
  ];
  for (const [name, text] of good) {
    it(name, async () => {
      const principal = await authenticate(text);
      assert.equal(principal.subject, 'alice');
      assert.deepEqual([...principal.groups], []);
    });
  }

  it('and reads the principal', async () => {
    const text = token(
      {},
      {
        groups: ['dev', 'ops', 'dev'],
        targets: ['box:22', '*.dev.example'],
        jti: 'j1',
        sid: 's1',
        exp: now + 60,
      },
    );
    assert.deepEqual(await authenticate(text), {
      issuer: issuer.issuer,
      subject: 'alice',
      groups: new Set(['dev', 'ops']),
      targets: ['box:22', '*.dev.example'],
      tokenId: 'j1',
      signInId: 's1',
      issuedAt: new Date(nowMs - 60_000),
      expiresAt: new Date(nowMs + 60_000),
    });
  });

  it('a single group as text, and an empty list of targets', async () => {
    const principal = await authenticate(token({}, { groups: 'dev', targets: [] }));
    assert.deepEqual([...principal.groups], ['dev']);
    assert.deepEqual(principal.targets, []);
  });
});

function signWithMembers(members: string): string {
  return signText(JSON.stringify(header), `${JSON.stringify(claims).slice(0, -1)},${members}}`);
}

describe('jwtAuthenticator() refuses', () => {
  const sound = token();
  const [head, body, signature] = sound.split('.') as [string, string, string];
  const spki = ec.publicKey.export({ type: 'spki', format: 'pem' });
  const hmac = (secret: string | Buffer) => {
    const input = `${encode(JSON.stringify({ ...header, alg: 'HS256' }))}.${body}`;
    return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
  };
  const strayBits = signature.slice(0, -1) + ({ A: 'B', Q: 'R', g: 'h', w: 'x' }[signature.at(-1)!] ?? '!');

  const forms: readonly (readonly [string, string])[] = [
    ['nothing', ''],
    ['one part', head],
    ['two parts', `${head}.${body}`],
    ['four parts', `${sound}.x`],
    ['five parts (JWE)', `${head}.${body}.x.y.z`],
    ['an empty header', `.${body}.${signature}`],
    ['an empty payload', `${head}..${signature}`],
    ['an empty signature', `${head}.${body}.`],
    ['white space before it', ` ${sound}`],
    ['white space after it', `${sound} `],
    ['a line end', `${sound}\n`],
    ['white space inside', `${head}. ${body}.${signature}`],
    ['padding', `${sound}=`],
    ['padding in the header', `${head}==.${body}.${signature}`],
    [
      'the alphabet of plain base64',
      `${head}.${body}.${signature.replaceAll('-', '+').replaceAll('_', '/')}+`,
    ],
    ['stray bits at the end', `${head}.${body}.${strayBits}`],
    ['a changed signature', `${head}.${body}.${encode(Buffer.alloc(64, 7))}`],
    ['a signature of zeros (CVE-2022-21449)', `${head}.${body}.${encode(Buffer.alloc(64))}`],
    ['a short signature', `${head}.${body}.${encode(Buffer.alloc(8, 1))}`],
    ['another payload', `${head}.${encode(JSON.stringify({ ...claims, sub: 'root' }))}.${signature}`],
    ['8193 bytes', token({}, { pad: 'x'.repeat(6000) }).padEnd(8193, 'A')],
    ['a large payload, well signed', token({}, { pad: 'x'.repeat(8192) })],
    ['a header that is no JSON', signText('{', JSON.stringify(claims))],
    ['a header that is a list', signText('[]', JSON.stringify(claims))],
    ['a header that is null', signText('null', JSON.stringify(claims))],
    ['a payload that is text', signText(JSON.stringify(header), '"alice"')],
    ['a payload with a byte order mark', signText(JSON.stringify(header), `\uFEFF${JSON.stringify(claims)}`)],
    ['a payload that is not UTF-8', signText(JSON.stringify(header), Buffer.from([0x7b, 0xff, 0x7d]))],
    ['something after the payload', signText(JSON.stringify(header), `${JSON.stringify(claims)}x`)],
    ['a claim named twice', signWithMembers('"sub":"root"')],
    ['a claim named twice in disguise', signWithMembers('"\\u0073ub":"root"')],
    ['a member named twice inside a claim', signWithMembers('"act":{"sub":"a","sub":"b"}')],
    ['__proto__ named twice', signWithMembers('"__proto__":1,"__proto__":2')],
    [
      'a header member named twice',
      signText('{"alg":"ES256","kid":"ec","kid":"rsa"}', JSON.stringify(claims)),
    ],
    ['alg none', `${encode('{"alg":"none"}')}.${body}.${signature}`],
    ['alg none without signature', `${encode('{"alg":"none"}')}.${body}.`],
    ['HS256 with the public key as secret', hmac(spki)],
    ['HS256 with an empty secret', hmac('')],
    ['HS256 with the JWK as secret', hmac(JSON.stringify(jwk(ec.publicKey, {})))],
    [
      'a stranger that brings its own key',
      token({ jwk: jwk(stranger.publicKey, {}) }, {}, stranger.privateKey),
    ],
    ['a stranger without kid', token({ kid: undefined }, {}, stranger.privateKey)],
    ['a key for encryption', token({ kid: 'encryption' }, {}, stranger.privateKey)],
    ['an RSA key of 1024 bits', token({ alg: 'RS256', kid: 'short' }, {}, shortRsa.privateKey)],
    ['another algorithm than the key is for', token({ alg: 'ES256', kid: 'rsa' }, {}, rsa.privateKey)],
    ['an issuer whose keys are others', token({}, { iss: odd.issuer })],
  ];

  const headers: readonly Json[] = [
    ...[
      undefined,
      null,
      1,
      '',
      'none',
      'None',
      'HS256',
      'es256',
      'ES384',
      'PS256',
      'RSA1_5',
      ['ES256'],
      {},
    ].map((alg) => ({ alg })),
    ...[
      '',
      'nope',
      'k'.repeat(129),
      'k'.repeat(2048),
      '../../etc/passwd',
      "' or 1=1",
      '__proto__',
      1,
      null,
      ['ec'],
    ].map((kid) => ({ kid })),
    ...[
      'dpop+jwt',
      'logout+jwt',
      'secevent+jwt',
      'postern-ticket+jwt',
      'token-introspection+jwt',
      'application/dpop+jwt',
    ].map((typ) => ({ typ })),
    ...['', 'JWE', 'at+jwt ', 'x/at+jwt', 1, null, ['JWT']].map((typ) => ({ typ })),
    { crit: ['b64'], b64: false },
    { crit: [] },
    { crit: ['exp'] },
    { b64: true },
    { b64: false },
    { enc: 'A128GCM' },
    { zip: 'DEF' },
  ];

  const times: readonly unknown[] = [
    undefined,
    null,
    '',
    `${now + 60}`,
    true,
    [],
    {},
    [now + 60],
    { valueOf: now },
  ];
  const bodies: readonly Json[] = [
    ...[
      undefined,
      null,
      '',
      'https://id.example/',
      'https://ID.example',
      'https://evil',
      1,
      ['https://id.example'],
      {},
    ].map((iss) => ({ iss })),
    ...[
      undefined,
      null,
      '',
      'Postern',
      'postern ',
      'other',
      1,
      [],
      ['other'],
      [['postern']],
      ['postern', 1],
      { postern: 1 },
    ].map((aud) => ({ aud })),
    ...[
      undefined,
      null,
      '',
      1,
      [],
      {},
      'a'.repeat(257),
      'a\nb',
      'a\0',
      '\u001b[31m',
      'a\u202Eb',
      'a\u2028b',
      '\uD800',
      ['alice'],
    ].map((sub) => ({ sub })),
    ...times.map((exp) => ({ exp })),
    ...times.map((iat) => ({ iat })),
    ...[null, '', `${now}`, [], now + 31, 1e300].map((nbf) => ({ nbf })),
    ...[now - 31, 0, -1, -now, 1e12, 1e15, 1e308].map((exp) => ({ exp, iat: Math.min(exp - 10, now - 60) })),
    ...[now + 31, now + 3600, 1e12, 1e308, -1, 0, -1e308, now - 24 * 3600].map((iat) => ({ iat })),
    { iat: now - 10, exp: now - 10 },
    { iat: now - 10, exp: now - 20 },
    { iat: now, exp: now + 24 * 3600 + 1 },
    ...[
      null,
      1,
      true,
      {},
      [1],
      [null],
      [['dev']],
      [''],
      ['a\nb'],
      '',
      'a'.repeat(257),
      Array.from({ length: 1001 }, (_, at) => `${at}`),
    ].map((groups) => ({ groups })),
    ...[
      null,
      'box',
      1,
      {},
      [1],
      [''],
      ['*foo'],
      ['box', 'a b'],
      [['box']],
      ['box:0'],
      ['10.0.0.0/8'],
      ['127.1'],
    ].map((targets) => ({ targets })),
    ...[null, 1, '', {}, 'x'.repeat(257), 'a\nb'].map((jti) => ({ jti })),
    ...[null, 1, '', {}, 'x'.repeat(257), 'a\nb'].map((sid) => ({ sid })),
    ...[null, {}, { jkt: 'x' }, 'x', false].map((cnf) => ({ cnf })),
    // Bound, and no proof; bound by another method besides.
    ...[{ jkt: 'x'.repeat(43) }, { jkt: 'x'.repeat(43), 'x5t#S256': 'y' }, { 'x5t#S256': 'y' }].map(
      (cnf) => ({
        cnf,
      }),
    ),
  ];

  const cases = [
    ...forms,
    ...headers.map((each) => [`a header with ${describeJson(each)}`, token(each)] as const),
    ...bodies.map((each) => [`a payload with ${describeJson(each)}`, token({}, each)] as const),
    ...[undefined, 'JWT', 'dpop+jwt', 'application/jwt'].map(
      (typ) => [`typ ${typ} where at+jwt is demanded`, token({ typ }, { iss: typed.issuer })] as const,
    ),
  ];
  for (const [name, text] of cases) {
    it(name, async () => {
      await assert.rejects(authenticate(text), refusal);
    });
  }

  it('no token as TOKEN_MISSING, and an unreadable header as a bad token', async () => {
    await assert.rejects(authenticator.authenticate([], loopbackContext), { code: 'TOKEN_MISSING' });
    await assert.rejects(authenticator.authenticate([{ kind: 'unreadable' }], loopbackContext), refusal);
  });

  it('any text, with that one error', async () => {
    const json = fc.json({ maxDepth: 3 });
    const part = fc.oneof(fc.constantFrom(head, body, signature, ''), fc.string(), json.map(encode));
    const text = fc.oneof(
      fc.array(part, { maxLength: 5 }).map((parts) => parts.join('.')),
      fc.string({ unit: 'binary', maxLength: 100 }),
      fc
        .tuple(fc.nat(sound.length - 1), fc.string({ minLength: 1, maxLength: 2 }))
        .map(([at, put]) => sound.slice(0, at) + put + sound.slice(at + 1)),
    );
    const property = fc.asyncProperty(text, async (text) => {
      if (text === sound) return;
      await assert.rejects(authenticate(text), refusal);
    });
    await fc.assert(property, { numRuns });
  });

  it('any claims that are well signed and not as they should be, without widening', async () => {
    const anything = fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom<unknown>(now, 'postern', ['dev'], ['box']),
    );
    const name = fc.constantFrom('cnf', 'sid', 'aud', 'sub', 'exp', 'iat', 'nbf', 'groups', 'targets', 'jti');
    const property = fc.asyncProperty(fc.dictionary(name, anything), async (changed) => {
      let principal: Principal;
      try {
        principal = await authenticate(token({}, changed));
      } catch (error) {
        assert.ok(error instanceof TunnelError && error.code === 'TOKEN_INVALID');
        return;
      }
      const { sub = 'alice', groups = [], targets } = changed as Json;
      assert.equal(principal.subject, sub);
      assert.deepEqual(
        principal.groups,
        new Set(typeof groups === 'string' ? [groups] : (groups as string[])),
      );
      assert.deepEqual(principal.targets, targets);
    });
    await fc.assert(property, { numRuns });
  });
});

function describeJson(value: Json): string {
  const text = Object.entries(value)
    .map(([name, each]) => `${name} ${JSON.stringify(each)}`)
    .join(', ');
  return text.slice(0, 60);
}

function only(...keys: JWK[]): KeySource {
  return fixedKeys({ keys });
}

describe('a token that was accepted is refused', () => {
  const another = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const text = token();
  const right = only(jwk(ec.publicKey, { kid: 'ec' }));

  /** Authenticates the token once, and again after `change`. */
  async function authenticateTwice(
    change: (world: { keys: KeySource; nowMs: number }) => void,
  ): Promise<Principal> {
    const world = { keys: right, nowMs };
    const changing: KeySource = { find: (hint) => world.keys.find(hint) };
    const authenticator = jwtAuthenticator([{ ...issuer, keys: changing }], { now: () => world.nowMs });
    const credentials = [{ kind: 'token', token: new Secret(text) }] as const;
    assert.equal((await authenticator.authenticate(credentials, loopbackContext)).subject, 'alice');
    change(world);
    return authenticator.authenticate(credentials, loopbackContext);
  }

  const changes: Record<string, Parameters<typeof authenticateTwice>[0]> = {
    'when its key has left the key set': (world) => (world.keys = only()),
    'when its kid is the name of another key': (world) =>
      (world.keys = only(jwk(another.publicKey, { kid: 'ec' }))),
    'when its key is for encryption now': (world) =>
      (world.keys = only(jwk(ec.publicKey, { kid: 'ec', use: 'enc' }))),
    'when its key is for another algorithm now': (world) =>
      (world.keys = only(jwk(ec.publicKey, { kid: 'ec', alg: 'ES384' }))),
    'when it has expired': (world) => (world.nowMs = (now + 3600 + 31) * 1000),
  };
  for (const [when, change] of Object.entries(changes))
    it(when, () => assert.rejects(authenticateTwice(change), refusal));

  it('and not when its key is still in a key set that was loaded again', async () => {
    const principal = await authenticateTwice(
      (world) =>
        (world.keys = only(jwk(another.publicKey, { kid: 'new' }), jwk(ec.publicKey, { kid: 'ec' }))),
    );
    assert.equal(principal.subject, 'alice');
  });

  it('where its issuer has another algorithm, audience or type', async () => {
    for (const other of [{ algorithms: ['EdDSA'] as const }, { audience: 'other' }, { typ: 'at+jwt' }]) {
      const changed = jwtAuthenticator([{ ...issuer, ...other }], { now: () => nowMs });
      await assert.rejects(
        changed.authenticate([{ kind: 'token', token: new Secret(text) }], loopbackContext),
        refusal,
      );
    }
  });
});

describe('the time that revocations compare with', () => {
  const signIns: TrustedIssuer = { ...issuer, hasAuthTime: true };
  const timeOf = async (body: Json, from = signIns): Promise<number> => {
    const credentials = [{ kind: 'token', token: new Secret(token({}, body)) }] as const;
    const principal = await jwtAuthenticator([from], { now: () => nowMs }).authenticate(
      credentials,
      loopbackContext,
    );
    return principal.issuedAt.getTime();
  };

  it('is auth_time for an issuer that has it, however new the token is', async () =>
    assert.equal(await timeOf({ auth_time: now - 5000.25 }), (now - 5000.25) * 1000));

  it('is iat for all others, also beside an auth_time', async () =>
    assert.equal(await timeOf({ auth_time: now + 1000 }, issuer), (now - 60) * 1000));

  for (const auth_time of [undefined, null, '1', [], 1e300])
    it(`is never ${JSON.stringify(auth_time)}`, () => assert.rejects(timeOf({ auth_time }), refusal));
});

describe('conditions on claims', () => {
  const conditioned = jwtAuthenticator(
    [
      {
        ...issuer,
        claims: [
          { claim: 'repository', values: ['org/one', 'org/two'] },
          { claim: 'protected', values: [true] },
        ],
      },
    ],
    { now: () => nowMs },
  );
  const table: [claims: Json, holds: boolean][] = [
    [{ repository: 'org/one', protected: true }, true],
    [{ repository: 'org/two', protected: true }, true],
    [{ repository: ['x', 'org/two'], protected: [true] }, true],
    [{ repository: 'org/three', protected: true }, false],
    [{ repository: 'org/one', protected: 'true' }, false],
    [{ repository: 'org/one', protected: 1 }, false],
    [{ repository: 'org/one' }, false],
    [{ protected: true }, false],
    [{ repository: { 0: 'org/one' }, protected: true }, false],
    [{ repository: [['org/one']], protected: true }, false],
    [{ repository: [], protected: true }, false],
    [{ repository: 'ORG/ONE', protected: true }, false],
    [{}, false],
  ];
  for (const [body, holds] of table) {
    it(`${describeJson(body)} ${holds ? 'hold' : 'do not hold'}`, async () => {
      const result = conditioned.authenticate(
        [{ kind: 'token', token: new Secret(token({}, body)) }],
        loopbackContext,
      );
      if (holds) assert.equal((await result).subject, 'alice');
      else await assert.rejects(result, refusal);
    });
  }
});
