import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { nameResolver } from '../../../server/dial/resolve.ts';
import { startDnsServer } from './dns-server.ts';
import type { DnsAnswer } from './dns-server.ts';

const never = new AbortController().signal;

async function bench(t: TestContext, answer: (name: string, type: string) => DnsAnswer) {
  const server = await startDnsServer(t, answer);
  const clock = { nowMs: 0 };
  const resolver = nameResolver({ nameServers: [server.address], now: () => clock.nowMs });
  const resolve = (name: string, signal = never, holder?: string) => resolver.resolve(name, signal, holder);
  return { server, clock, resolve };
}

describe('nameResolver()', () => {
  it('gives the addresses of both families, through an alias', async (t) => {
    const { resolve } = await bench(t, () => ({ addresses: ['10.0.0.5', 'fd00::5'], cname: 'real.example' }));
    assert.deepEqual([...(await resolve('box.example'))].toSorted(), ['10.0.0.5', 'fd00::5']);
  });

  it('asks once for a name that many want, and not again within its TTL', async (t) => {
    const { server, clock, resolve } = await bench(t, () => ({ addresses: ['10.0.0.5'], ttlSeconds: 30 }));
    await Promise.all(Array.from({ length: 20 }, () => resolve('box.example')));
    clock.nowMs = 29_999;
    await resolve('box.example');
    assert.deepEqual([...server.asked].toSorted(), ['box.example A', 'box.example AAAA']);
    clock.nowMs = 30_000;
    await resolve('box.example');
    assert.equal(server.asked.length, 4);
  });

  for (const [ttlSeconds, lifeMs] of [
    [0, 1000],
    [1_000_000, 60_000],
  ] as const) {
    it(`keeps an answer with a TTL of ${ttlSeconds} s for ${lifeMs} ms`, async (t) => {
      const { server, clock, resolve } = await bench(t, () => ({ addresses: ['10.0.0.5'], ttlSeconds }));
      await resolve('box.example');
      clock.nowMs = lifeMs - 1;
      await resolve('box.example');
      assert.equal(server.asked.length, 2);
      clock.nowMs = lifeMs;
      await resolve('box.example');
      assert.equal(server.asked.length, 4);
    });
  }

  const failures: readonly (readonly [string, string, (type: string) => DnsAnswer])[] = [
    ['NXDOMAIN', 'NAME_NOT_FOUND', () => 'NXDOMAIN'],
    ['no address', 'NAME_NOT_FOUND', () => ({ addresses: [] })],
    ['SERVFAIL', 'NAME_FAILED', () => 'SERVFAIL'],
    ['REFUSED', 'NAME_FAILED', () => 'REFUSED'],
    [
      'NXDOMAIN for one family and SERVFAIL for the other',
      'NAME_NOT_FOUND',
      (type) => (type === 'A' ? 'NXDOMAIN' : 'SERVFAIL'),
    ],
    ['no A and SERVFAIL for AAAA', 'NAME_FAILED', (type) => (type === 'A' ? { addresses: [] } : 'SERVFAIL')],
  ];
  for (const [name, code, answer] of failures) {
    it(`${name} is ${code}, remembered for 2 s`, async (t) => {
      const { server, clock, resolve } = await bench(t, (_, type) => answer(type));
      await assert.rejects(resolve('box.example'), { code });
      const { length } = server.asked;
      clock.nowMs = 1999;
      await assert.rejects(resolve('box.example'), { code });
      assert.equal(server.asked.length, length);
      clock.nowMs = 2000;
      await assert.rejects(resolve('box.example'), { code });
      assert.ok(server.asked.length > length);
    });
  }

  it('gives what one family has when the other fails or is silent', async (t) => {
    const { resolve } = await bench(t, (name, type) => {
      if (type === 'A') return { addresses: ['10.0.0.5'] };
      return name === 'silent.example' ? 'silence' : 'SERVFAIL';
    });
    const started = performance.now();
    assert.deepEqual(await resolve('failing.example'), ['10.0.0.5']);
    assert.deepEqual(await resolve('silent.example'), ['10.0.0.5']);
    assert.ok(performance.now() - started < 1500);
  });

  it('gives at most 16 addresses, some of each family', async (t) => {
    const many = Array.from({ length: 25 }, (_, at) => [`10.0.0.${at}`, `fd00::${at + 1}`]).flat();
    const { resolve } = await bench(t, () => ({ addresses: many }));
    const found = await resolve('box.example');
    assert.equal(found.length, 16);
    assert.equal(found.filter((address) => address.includes(':')).length, 8);
  });

  it('fails within 5 s when nobody answers, and 100 hanging names hold up no other (E7, R9)', async (t) => {
    const { resolve } = await bench(t, (name) =>
      name.startsWith('hang') ? 'silence' : { addresses: ['10.0.0.5'] },
    );
    await resolve('cached.example');
    const started = performance.now();
    const hanging = Array.from({ length: 100 }, (_, at) =>
      resolve(`hang${at}.example`).then(
        () => 'found',
        (error: unknown) => (error as { code: string }).code,
      ),
    );
    await resolve('cached.example');
    assert.ok(performance.now() - started < 500);
    assert.deepEqual(new Set(await Promise.all(hanging)), new Set(['NAME_TIMEOUT']));
    assert.ok(performance.now() - started < 6500);
  });

  it('a new name is found at once while 20 names hang', async (t) => {
    const { resolve } = await bench(t, (name) =>
      name.startsWith('hang') ? 'silence' : { addresses: ['10.0.0.5'] },
    );
    const hanging = Array.from({ length: 20 }, (_, at) => resolve(`hang${at}.example`).catch(() => {}));
    const started = performance.now();
    assert.deepEqual(await resolve('new.example'), ['10.0.0.5']);
    assert.ok(performance.now() - started < 1500);
    await Promise.all(hanging);
  });

  it('gives each person turns of their own: 99 names of one that hang hold up no other', async (t) => {
    const { resolve } = await bench(t, (name) =>
      name.startsWith('hangs') ? 'silence' : { addresses: ['10.0.0.5'] },
    );
    const abort = new AbortController();
    const hanging = Array.from({ length: 99 }, (_, at) =>
      resolve(`hangs-${at}.example`, abort.signal, 'mallory').catch(() => {}),
    );
    // All that other people ask for is new, and found before the first of the hanging ones has failed.
    const first = Promise.race(hanging).then(() => 'hanging');
    const found = Promise.all(
      Array.from({ length: 50 }, (_, at) => resolve(`new-${at}.example`, never, `person ${at}`)),
    ).then(() => 'found');
    assert.equal(await Promise.race([first, found]), 'found');
    abort.abort();
    await Promise.all(hanging);
  });

  it('does not keep a name that answered before behind the hanging ones of the same person', async (t) => {
    const { clock, resolve } = await bench(t, (name) =>
      name.startsWith('hangs') ? 'silence' : { addresses: ['10.0.0.5'], ttlSeconds: 1 },
    );
    await resolve('known.example', never, 'mallory');
    clock.nowMs += 3_600_000;
    const abort = new AbortController();
    const hanging = Array.from({ length: 99 }, (_, at) =>
      resolve(`hangs-${at}.example`, abort.signal, 'mallory').catch(() => {}),
    );
    const first = Promise.race(hanging).then(() => 'hanging');
    const known = resolve('known.example', never, 'mallory').then(() => 'known');
    assert.equal(await Promise.race([first, known]), 'known');
    abort.abort();
    await Promise.all(hanging);
  });

  it('has a bound for what one person lets wait', async (t) => {
    const { server, resolve } = await bench(t, () => 'silence');
    const abort = new AbortController();
    const results = Array.from({ length: 400 }, (_, at) =>
      resolve(`hangs-${at}.example`, abort.signal, 'mallory').catch((error: { code?: string }) => error.code),
    );
    assert.equal(await Promise.race(results), 'NAME_TIMEOUT');
    abort.abort();
    await Promise.all(results);
    assert.ok(new Set(server.asked).size <= 2 * 32);
  });

  it('leaves a look-up when its signal aborts; others still get it', async (t) => {
    const { resolve } = await bench(t, () => ({ addresses: ['10.0.0.5'] }));
    const abort = new AbortController();
    const left = resolve('box.example', abort.signal);
    const kept = resolve('box.example');
    abort.abort(new Error('gone'));
    await assert.rejects(left, /gone/);
    assert.deepEqual(await kept, ['10.0.0.5']);
    await assert.rejects(resolve('box.example', abort.signal), /gone/);
  });
});
