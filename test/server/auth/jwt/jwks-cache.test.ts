import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { exportJWK, generateKeyPair } from 'jose';
import type { JSONWebKeySet } from 'jose';
import { fetchJson } from '../../../../server/auth/jwt/fetch-json.ts';
import { remoteJwksPolicy } from '../../../../server/auth/jwt/issuer-keys.ts';
import { JwksCache } from '../../../../server/auth/jwt/jwks-cache.ts';
import type { KeySource } from '../../../../server/auth/jwt/jwks-cache.ts';
import { keysFromDiscovery, keysFromUrl } from '../../../../server/auth/jwt/jwks-loaders.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

async function keySet(...kids: string[]): Promise<JSONWebKeySet> {
  const { publicKey } = await generateKeyPair('EdDSA');
  const jwk = await exportJWK(publicKey);
  return { keys: kids.map((kid) => ({ ...jwk, kid })) };
}

/** An HTTP server on loopback that ends with the test. */
async function serve(t: TestContext, listener: RequestListener): Promise<URL> {
  const server: Server = createServer(listener).listen(0, '127.0.0.1');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server, 'listening');
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`);
}

/** A key source whose endpoint and clock the test controls. */
function bench(first: JSONWebKeySet) {
  const state = {
    nowMs: 0,
    loads: 0,
    errors: 0,
    answer: (): Promise<JSONWebKeySet> => Promise.resolve(first),
  };
  const source = new JwksCache(
    () => {
      state.loads += 1;
      return state.answer();
    },
    { policy: remoteJwksPolicy, now: () => state.nowMs, onError: () => (state.errors += 1) },
  );
  return { state, has: (kid: string) => has(source, kid) };
}

async function has(source: KeySource, kid: string): Promise<boolean> {
  return (await source.find({ alg: 'EdDSA', kid })).length > 0;
}

const down = () => Promise.reject(new Error('down'));
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('JwksCache', () => {
  it('loads once for any number of concurrent callers', async () => {
    const { state, has } = bench(await keySet('a'));
    const found = await Promise.all(Array.from({ length: 50 }, () => has('a')));
    assert.ok(found.every(Boolean));
    assert.equal(state.loads, 1);
  });

  it('makes at most one load in 10 s for 10,000 unknown keys', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    for (let at = 0; at < 10_000; at++) {
      state.nowMs += 2;
      assert.ok(!(await has(`unknown ${at}`)));
    }
    // 20 s of them: at 0, 10 and 20 s.
    assert.ok(state.loads <= 1 + 3, String(state.loads));
  });

  it('makes as few while the endpoint is down', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    state.answer = down;
    for (let at = 0; at < 1000; at++) {
      state.nowMs += 20;
      assert.ok(!(await has(`unknown ${at}`)));
      assert.ok(await has('a'));
    }
    assert.ok(state.loads <= 1 + 3, String(state.loads));
  });

  it('finds a rotated key at its first use, also right after the first load', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    const next = await keySet('a', 'b');
    state.answer = () => Promise.resolve(next);
    assert.ok(await has('b'));
    assert.equal(state.loads, 2);
  });

  it('refreshes in the background while keys are in use, so that a removed key is refused within 10 minutes', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    const next = await keySet('b');
    state.answer = () => Promise.resolve(next);
    state.nowMs = 4 * minuteMs;
    assert.ok(await has('a'));
    await settled();
    assert.equal(state.loads, 1);
    state.nowMs = 6 * minuteMs;
    await has('a');
    await settled();
    assert.ok(!(await has('a')));
  });

  it('refuses a removed key after 10 minutes without use too', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    const next = await keySet('b');
    state.answer = () => Promise.resolve(next);
    state.nowMs = 11 * minuteMs;
    assert.ok(!(await has('a')));
  });

  it('uses known keys for 24 hours while the endpoint is down, and reports each failure', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    state.answer = down;
    for (let at = 1; at < 24; at++) {
      state.nowMs = at * hourMs;
      assert.ok(await has('a'), `after ${at} h`);
    }
    await settled();
    assert.ok(state.errors >= 20, String(state.errors));
    state.nowMs = 24 * hourMs + 1;
    await assert.rejects(has('a'), { code: 'ISSUER_UNAVAILABLE' });
    const back = await keySet('a');
    state.answer = () => Promise.resolve(back);
    state.nowMs += remoteJwksPolicy.cooldownMs;
    assert.ok(await has('a'));
  });

  it('does not wait for an endpoint that hangs while keys are cached', async () => {
    const { state, has } = bench(await keySet('a'));
    await has('a');
    state.answer = () => new Promise(() => {});
    state.nowMs = 6 * minuteMs;
    assert.ok(await has('a'));
  });

  it('rejects with ISSUER_UNAVAILABLE before the first key set is loaded, and tries again after 10 s', async () => {
    const { state, has } = bench(await keySet('a'));
    const { answer } = state;
    state.answer = down;
    await assert.rejects(has('a'), { code: 'ISSUER_UNAVAILABLE' });
    state.answer = answer;
    await assert.rejects(has('a'), { code: 'ISSUER_UNAVAILABLE' });
    assert.equal(state.loads, 1);
    state.nowMs += remoteJwksPolicy.cooldownMs;
    assert.ok(await has('a'));
  });

  for (const keys of [[null], [1], 'x', [{ kty: 1 }]]) {
    it(`opens nothing for the key set ${JSON.stringify(keys)}`, async () => {
      const { has } = bench({ keys } as unknown as JSONWebKeySet);
      const found = await has('a').catch((error: unknown) => (error as { code: string }).code);
      assert.ok(found === false || found === 'ISSUER_UNAVAILABLE');
    });
  }

  it('does not accept a private or symmetric key as a public one', async () => {
    const { privateKey } = await generateKeyPair('EdDSA', { extractable: true });
    const secret = { kty: 'oct', k: 'c2VjcmV0', kid: 'b' };
    const { has } = bench({ keys: [{ ...(await exportJWK(privateKey)), kid: 'a' }, secret] });
    assert.deepEqual([await has('a'), await has('b')], [false, false]);
  });

  it('tries at most 8 keys for a token that names none', async () => {
    const set = await keySet(...Array.from({ length: 20 }, (_, at) => `k${at}`));
    const source = new JwksCache(() => Promise.resolve(set), { policy: remoteJwksPolicy, now: () => 0 });
    assert.equal((await source.find({ alg: 'EdDSA' })).length, 8);
  });
});

describe('keysFromUrl()', () => {
  it('gets the key set', async (t) => {
    const set = await keySet('a');
    const url = await serve(t, (_, response) => response.end(JSON.stringify(set)));
    assert.deepEqual(await keysFromUrl(url)(), set);
  });

  const bad: Record<string, RequestListener> = {
    'status 500': (_, response) => response.writeHead(500).end('{"keys":[]}'),
    'status 204': (_, response) => response.writeHead(204).end(),
    HTML: (_, response) => response.end('<html>sign in</html>'),
    'JSON of another kind': (_, response) => response.end('[]'),
    null: (_, response) => response.end('null'),
    'keys that are no list': (_, response) => response.end('{"keys":{}}'),
    'text that is not UTF-8': (_, response) => response.end(Buffer.from([0x22, 0xff, 0x22])),
    'a redirect': (request, response) =>
      request.url === '/there'
        ? response.end('{"keys":[]}')
        : response.writeHead(302, { location: '/there' }).end(),
    'an answer cut short': (_, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('{"keys":[]}');
      setImmediate(() => response.destroy());
    },
    'a connection that closes': (request) => request.socket.destroy(),
    'compressed bytes': (_, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(Buffer.from([0x1f, 0x8b, 0x08])),
  };
  for (const [name, listener] of Object.entries(bad)) {
    it(`refuses ${name}`, async (t) => {
      await assert.rejects(keysFromUrl(await serve(t, listener))(), /cannot get|not a JSON Web Key Set/);
    });
  }

  it('gives up at 1 MiB of an answer that goes on for ever', async (t) => {
    let sent = 0;
    const url = await serve(t, (_, response) => {
      const more = () => {
        while (!response.destroyed && sent < 10 * 1024 * 1024) {
          sent += 65_536;
          if (response.write(Buffer.alloc(65_536, ' '))) continue;
          response.once('drain', more);
          return;
        }
      };
      more();
    });
    await assert.rejects(keysFromUrl(url)());
    assert.ok(sent < 10 * 1024 * 1024, String(sent));
  });

  it('gives up on an endpoint that hangs, before and within the answer', async (t) => {
    const limits = { timeoutMs: 150, maxBytes: 1000 };
    await assert.rejects(fetchJson(await serve(t, () => {}), limits), /no answer/);
    const dripping = await serve(t, (_, response) => void response.writeHead(200).write('{'));
    await assert.rejects(fetchJson(dripping, limits), /no answer/);
  });

  it('uses a new connection each time', async (t) => {
    const ports = new Set<number | undefined>();
    const url = await serve(t, (request, response) => {
      ports.add(request.socket.remotePort);
      response.end('{"keys":[]}');
    });
    for (let at = 0; at < 3; at++) await keysFromUrl(url)();
    assert.equal(ports.size, 3);
  });
});

/** An issuer with its metadata made by the test. */
async function provider(t: TestContext, metadata: (issuer: string) => unknown): Promise<string> {
  const set = await keySet('a');
  const url = await serve(t, (request, response) => {
    const known = request.url === '/id/.well-known/openid-configuration';
    response.end(JSON.stringify(known ? metadata(issuer) : set));
  });
  const issuer = `${url.origin}/id`;
  return issuer;
}

describe('keysFromDiscovery()', () => {
  it('follows the metadata of the issuer', async (t) => {
    const issuer = await provider(t, (issuer) => ({ issuer, jwks_uri: `${issuer}/jwks` }));
    const { keys } = await keysFromDiscovery(issuer)();
    assert.equal(keys[0]!.kid, 'a');
  });

  const bad: Record<string, (issuer: string) => unknown> = {
    'of another issuer': (issuer) => ({ issuer: 'https://evil.example', jwks_uri: `${issuer}/jwks` }),
    'whose issuer has one slash more': (issuer) => ({ issuer: `${issuer}/`, jwks_uri: `${issuer}/jwks` }),
    'without an issuer': (issuer) => ({ jwks_uri: `${issuer}/jwks` }),
    'without jwks_uri': (issuer) => ({ issuer }),
    'with keys over http': (issuer) => ({ issuer, jwks_uri: 'http://keys.example/jwks' }),
    'with a jwks_uri that is no URL': (issuer) => ({ issuer, jwks_uri: '/jwks' }),
    'with a file as jwks_uri': (issuer) => ({ issuer, jwks_uri: 'file:///etc/passwd' }),
    'that is null': () => null,
  };
  for (const [name, metadata] of Object.entries(bad)) {
    it(`refuses metadata ${name}`, async (t) => {
      const issuer = await provider(t, metadata);
      await assert.rejects(keysFromDiscovery(issuer)(), /metadata/);
    });
  }
});
