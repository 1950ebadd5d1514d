import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { formatError, sanitize } from '../../client/errors/report.ts';
import { ClientError } from '../../client/errors/failure.ts';
import { maskPlainSecrets, maskSecrets } from '../../protocol/secret-forms.ts';
import { quote } from '../../protocol/target.ts';
import { redact } from '../../server/telemetry/log.ts';

const random = (): string => randomBytes(32).toString('base64url');
const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Everything secret that is made here or given to us, and what of it must not be left. */
const secrets: Readonly<Record<string, () => readonly [text: string, secret: string]>> = {
  'a ticket': () => both(`pt_${random()}`),
  'a ticket after another word': () => {
    const ticket = `pt_${random()}`;
    return [`host%3D${ticket}`, ticket];
  },
  'a refresh token, an authorization code, a session': () => both(random()),
  'one in lower case': () => both(`a${random().toLowerCase().replaceAll(/[-_]/g, 'x7')}`),
  'a token': () => both(`${part({ alg: 'EdDSA' })}.${part({ sub: 'alice' })}.${random()}`),
  'a proof': () =>
    both(`${part({ typ: 'dpop+jwt', jwk: { kty: 'OKP' } })}.${part({ jti: 'x' })}.${random()}`),
  'a token in lower case': () => both(`${part({ alg: 'EdDSA' })}.${part({ sub: 'a' })}.x`.toLowerCase()),
  'Authorization: Bearer': () => ['Bearer s3cr3t-t0ken', 's3cr3t'],
  'Authorization: Basic': () => [`Basic ${btoa('alice:pass word')}`, btoa('alice:pass word').slice(0, 8)],
  'Proxy-Authorization: Negotiate': () => ['negotiate YIIB/3x+AAAA==', 'YIIB'],
  'a user and a password in a URL': () => ['http://al:pass@proxy:3128/', 'pass'],
  'a user alone in a URL': () => ['socks5h://t0ps3cret@proxy', 't0ps3cret'],
  'a field of a form': () => ['grant_type=x&refresh_token=abc1&client_secret=xyz1', 'abc1'],
  'a password in a query': () => ['/ssh/?password=hunter2', 'hunter2'],
  'a code in a query': () => ['/cb?state=1&code=short1', 'short1'],
  'an encoded field': () => ['token%3Dhunter2', 'hunter2'],
  'a code that a person types': () => both('BCDF-GHJK'),
  'the key of a second factor': () => both('JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP'),
  'a cookie': () => ['__Secure-postern-session=abc; other', 'abc;'],
  'a cookie on this machine': () => ['postern-session=hello1', 'hello1'],
  'a private key': () => ['-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ\n-----END PRIVATE KEY-----', 'MC4C'],
};

function both(secret: string): readonly [string, string] {
  return [secret, secret];
}

describe('a secret is masked by its form', () => {
  for (const [what, make] of Object.entries(secrets)) {
    it(what, () => {
      for (let round = 0; round < 50; round++) {
        const [text, secret] = make();
        const long = `${'x'.repeat(70)} ${text}`;
        for (const masked of [
          maskSecrets(text),
          maskSecrets(`before ${text} after`),
          redact(`${text}:22`),
          quote(`${text}:22`),
          quote(long),
          redact(`${'x'.repeat(290)} ${text}`),
          sanitize(`the gateway says: ${text}`),
          sanitize(`${'x '.repeat(195)}${text}`),
          formatError(new ClientError('TARGET_INVALID', `no target: ${text}`, { hint: `try ${text}` })),
        ]) {
          assert.ok(!masked.includes(secret.slice(0, 24)), masked);
          // Nor a part of it, where a long text is cut.
          assert.ok(secret.length < 30 || !masked.includes(secret.slice(0, 12)), masked);
        }
      }
    });
  }
});

describe('what is no secret is left as it is', () => {
  for (const text of [
    'box:22',
    'my_box',
    'internal-a1b2c3d4e5f60718293a4b5c6d7e8f90-1234567890.us-east-1.elb.amazonaws.com:22',
    'ip-10-0-12-34.eu-central-1.compute.internal',
    'a-rather-long-name-of-a-service-in-some-namespace-of-production:22',
    '[2001:db8:85a3:8d3:1319:8a2e:370:7348]:22',
    '3f786850e387550fdab836ed7e6dc881de23001b.preview.example',
    '550e8400-e29b-41d4-a716-446655440000',
    'basic authentication was refused; Negotiate is offered, and Basic Authentication',
    'Digest algorithm=SHA-256',
    'the token was not accepted; sign in again',
    'https://gw.example/ssh/',
    'code 500, DB-1234, WEB-PROD',
  ])
    it(text, () => assert.equal(maskSecrets(text), text));

  it('a line of JSON stays one, with the subjects and ids in it', () => {
    const line = `${JSON.stringify({
      subject: 'AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ',
      session: '9rXvNfjDR4_4',
      msg: `Bearer abc123def456 pt_${random()} http://a:b@c/ token=x`,
    })}\n`;
    const masked = JSON.parse(maskPlainSecrets(line)) as Readonly<Record<string, string>>;
    assert.equal(masked['subject'], 'AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ');
    assert.equal(masked['session'], '9rXvNfjDR4_4');
    assert.equal(masked['msg'], 'Bearer [secret] [secret] http://[secret]@c/ token=[secret]');
  });
});
