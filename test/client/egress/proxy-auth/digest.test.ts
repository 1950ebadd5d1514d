import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseChallenges } from '../../../../client/egress/proxy-auth/challenge.ts';
import { digest, digestAnswer } from '../../../../client/egress/proxy-auth/digest.ts';
import { SchemeUnavailable } from '../../../../client/egress/proxy-auth/scheme.ts';
import { Secret } from '../../../../protocol/secret.ts';

const mufasa = { user: 'Mufasa', password: new Secret('Circle of Life'), source: 'test' };
const realm = 'realm="http-auth@example.org"';
const opaque = 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"';
const nonce = 'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"';
const asking = { proxyHost: 'proxy.example', authority: 'gw.example:443' };

/** The fields of an answer. */
function fields(authorization: string | undefined): Readonly<Record<string, string>> {
  const [challenge] = parseChallenges(authorization ?? '');
  return Object.fromEntries(challenge!.params);
}

describe('digestAnswer()', () => {
  // RFC 7616 §3.9.1.
  for (const [algorithm, response] of [
    ['MD5', '8ca523f5e9506fed4657c9700eebdbec'],
    ['SHA-256', '753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1'],
  ] as const) {
    it(`has the response of RFC 7616 by ${algorithm}`, () => {
      const header = `Digest ${realm}, qop="auth, auth-int", algorithm=${algorithm}, ${nonce}, ${opaque}`;
      const [challenge] = parseChallenges(header);
      const authorization = digestAnswer(challenge!, mufasa, {
        authority: '/dir/index.html',
        method: 'GET',
        count: 1,
        clientNonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
      });
      assert.deepEqual(fields(authorization), {
        username: 'Mufasa',
        realm: 'http-auth@example.org',
        uri: '/dir/index.html',
        algorithm,
        nonce: '7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v',
        nc: '00000001',
        cnonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
        qop: 'auth',
        response,
        opaque: 'FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS',
      });
    });
  }

  it('has the response of RFC 2617 §3.5, and that of RFC 2069 where there is no qop', () => {
    const old = 'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", realm="testrealm@host.com"';
    const who = { user: 'Mufasa', password: new Secret('Circle Of Life') };
    const request = { authority: '/dir/index.html', method: 'GET', count: 1, clientNonce: '0a4f113b' };
    const [withQop] = parseChallenges(`Digest ${old}, qop="auth,auth-int"`);
    const [without] = parseChallenges(`Digest ${old}`);
    assert.equal(
      fields(digestAnswer(withQop!, who, request))['response'],
      '6629fae49393a05397450978507c4ef1',
    );
    const answer = fields(digestAnswer(without!, who, request));
    assert.equal(answer['response'], '670fd8c2df070c60b045671b8b24ff02');
    assert.deepEqual([answer['nc'], answer['cnonce'], answer['qop']], [undefined, undefined, undefined]);
  });

  it('makes a session key of -sess, hashes the user where that is asked, escapes what has to be', () => {
    const [session] = parseChallenges(`Digest realm="a \\"b\\"", nonce="n", qop=auth, algorithm=MD5-sess`);
    const request = { authority: 'gw.example:443', count: 10, clientNonce: 'c' };
    const answer = digestAnswer(session!, { user: 'a"b', password: new Secret('p') }, request);
    // Computed apart from this program, by RFC 7616 §3.4.
    assert.equal(fields(answer)['response'], '89d857465b2a4d1eacc2eb8dbd422cd8');
    assert.deepEqual([fields(answer)['realm'], fields(answer)['username']], ['a "b"', 'a"b']);
    assert.equal(fields(answer)['nc'], '0000000a');
    const [hashed] = parseChallenges(
      'Digest realm="r", nonce="n", qop=auth, algorithm=SHA-256, userhash=true',
    );
    const blind = fields(digestAnswer(hashed!, mufasa, request));
    assert.match(blind['username']!, /^[0-9a-f]{64}$/);
    assert.equal(blind['userhash'], 'true');
    const [plain] = parseChallenges('Digest realm="r", nonce="n", qop=auth');
    const greek = digestAnswer(plain!, { user: 'Ἀλέξ', password: new Secret('p') }, request);
    assert.match(greek, /username\*=UTF-8''%E1%BC%88%CE%BB%CE%AD%CE%BE,/);
  });
});

describe('digest()', () => {
  const offers = parseChallenges(
    `Digest ${realm}, nonce="md5", qop="auth", algorithm=MD5, Digest ${realm}, nonce="sha", qop="auth", algorithm=SHA-256`,
  );

  it('takes the strongest algorithm, counts on, and takes a new nonce only when the old one is stale', () => {
    const memory = {};
    const first = digest(mufasa, asking, memory);
    const said = fields(first.answer(offers) as string);
    assert.deepEqual([said['nonce'], said['nc'], said['uri']], ['sha', '00000001', 'gw.example:443']);
    const second = digest(mufasa, asking, memory);
    assert.equal(fields(second.answer([]) as string)['nc'], '00000002');
    const [stale] = parseChallenges(`Digest ${realm}, nonce="new", qop="auth", stale=true`);
    const again = fields(second.answer([stale!]) as string);
    assert.deepEqual([again['nonce'], again['nc']], ['new', '00000001']);
    assert.equal(second.answer(offers), undefined);
    assert.ok(second.hasSentCredential);
  });

  for (const header of [
    `Digest ${realm}, nonce="n", qop="auth-int"`,
    `Digest ${realm}, nonce="n", qop="auth", algorithm=TIGER`,
    'Digest nonce="n", qop="auth"',
    'Digest realm="r", qop="auth"',
  ]) {
    it(`leaves ${header} to another scheme`, () => {
      const talk = digest(mufasa, asking);
      assert.throws(() => talk.answer(parseChallenges(header)), SchemeUnavailable);
      assert.ok(!talk.hasSentCredential);
    });
  }
});
