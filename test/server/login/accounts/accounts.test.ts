import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import {
  addAccount,
  changeAccount,
  findAccount,
  isAccountName,
  listAccounts,
  verifyAccount,
} from '../../../../server/login/accounts/accounts.ts';
import type { SignInResult } from '../../../../server/login/accounts/accounts.ts';
import { forgetFailures, beginAttempt } from '../../../../server/login/accounts/login-throttle.ts';
import { codeOfStep, newTotpSecret, totpUrl, matchingStep } from '../../../../server/login/accounts/totp.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import type { Store } from '../../../../server/store/store.ts';

const password = 'correct horse';
const minuteMs = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'postern-accounts-'));
const file = join(folder, 'postern.db');
let now = 1_800_000_000_000;
let store: Store;
before(async () => {
  store = await openSqliteStore(file, { now: () => now });
});
after(async () => {
  await store.close();
  rmSync(folder, { recursive: true });
});

function signIn(
  name: string,
  more: { password?: string; code?: string; address?: string } = {},
): Promise<SignInResult> {
  return verifyAccount(store, { name, password, address: '192.0.2.1', now: () => now, ...more });
}

const secretOf = (text: string): string => text.replace(/.*secret=([A-Z2-7]+).*/, '$1');

describe('accounts', () => {
  it('let in by name and password, whatever the case of the name', async () => {
    await addAccount(store, { name: 'alice', password, groups: ['dev'] });
    for (const name of ['alice', 'Alice', ' alice '])
      assert.deepEqual(await signIn(name), { kind: 'ok', subject: 'alice', groups: ['dev'] });
    assert.equal(readFileSync(file).includes(password), false);
  });

  it('refuse all the same: another password, an unknown name, and a disabled account', async () => {
    await addAccount(store, { name: 'gone', password, groups: [] });
    await changeAccount(store, 'gone', { disabled: true });
    for (const result of [
      await signIn('alice', { password: 'correct hors' }),
      await signIn('alice', { password: '' }),
      await signIn('alice', { password: 'x'.repeat(100_000) }),
      await signIn('nobody'),
      await signIn('a:b'),
      await signIn('__proto__'),
      await signIn('gone'),
    ])
      assert.deepEqual(result, { kind: 'refused' });
    assert.equal(await findAccount(store, 'gone'), undefined);
    assert.deepEqual(await findAccount(store, 'alice'), { subject: 'alice', groups: ['dev'] });
    now += 24 * 60 * minuteMs;
  });

  it('take one password however the keyboard spells it', async () => {
    await addAccount(store, { name: 'jose', password: 'contrase\u00f1a larga', groups: [] });
    assert.equal((await signIn('jose', { password: 'contrasen\u0303a larga' })).kind, 'ok');
  });

  it('change', async () => {
    await changeAccount(store, 'alice', { password: 'another password', groups: ['ops'] });
    assert.equal((await signIn('alice')).kind, 'refused');
    assert.deepEqual(await signIn('alice', { password: 'another password' }), {
      kind: 'ok',
      subject: 'alice',
      groups: ['ops'],
    });
    await changeAccount(store, 'alice', { disabled: true });
    assert.equal((await signIn('alice', { password: 'another password' })).kind, 'refused');
    await changeAccount(store, 'alice', { disabled: false });
    assert.equal((await signIn('alice', { password: 'another password' })).kind, 'ok');
  });

  it('cannot be made twice, changed before they are made, or have passwords that are too short', async () => {
    await assert.rejects(addAccount(store, { name: 'alice', password, groups: [] }), {
      name: 'AccountError',
    });
    await assert.rejects(changeAccount(store, 'bob', { groups: [] }), { name: 'AccountError' });
    await assert.rejects(addAccount(store, { name: 'bob', password: 'short', groups: [] }), RangeError);
    assert.equal(await findAccount(store, 'bob'), undefined);
  });

  for (const name of ['', 'a:b', 'A', '-a', '.a', 'a b', 'a/b', 'a\n', 'ä', 'x'.repeat(65)]) {
    it(`are not called ${JSON.stringify(name)}`, () => assert.equal(isAccountName(name), false));
  }

  it('with a one-time code need it, take each once, and do without it when it is taken away', async () => {
    const secret = newTotpSecret();
    assert.equal(secretOf(totpUrl(secret, { issuer: 'gw.example', account: 'carol' })), secret);
    await addAccount(store, { name: 'carol', password, groups: [], oneTimeSecret: secret });
    const step = Math.floor(now / 30_000);
    const tries: [code: string | undefined, kind: string][] = [
      [undefined, 'refused'],
      [codeOfStep(secret, step - 2), 'refused'],
      [codeOfStep(secret, step - 1), 'ok'],
      [codeOfStep(secret, step), 'ok'],
      [codeOfStep(secret, step), 'refused'],
      [codeOfStep(secret, step - 1), 'refused'],
      [`${codeOfStep(secret, step + 1).slice(0, 3)} ${codeOfStep(secret, step + 1).slice(3)}`, 'ok'],
    ];
    for (const [code, kind] of tries) {
      const result = await signIn('carol', code === undefined ? {} : { code });
      assert.equal(result.kind, kind, `code ${code}`);
    }
    assert.deepEqual(
      (await listAccounts(store)).map(({ name, hasOneTimeCode }) => [name, hasOneTimeCode]),
      [
        ['alice', false],
        ['carol', true],
        ['gone', false],
        ['jose', false],
      ],
    );
    await changeAccount(store, 'carol', { oneTimeSecret: null });
    assert.equal((await signIn('carol')).kind, 'ok');
  });
});

describe('one-time codes', () => {
  // RFC 6238 Appendix B, its 8 digits cut to 6. The secret is "12345678901234567890".
  const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';
  for (const [seconds, code] of [
    [59, '287082'],
    [1_111_111_109, '081804'],
    [1_111_111_111, '050471'],
    [1_234_567_890, '005924'],
    [2_000_000_000, '279037'],
    [20_000_000_000, '353130'],
  ] as const) {
    it(`at ${seconds} are ${code}`, () => {
      assert.equal(codeOfStep(secret, Math.floor(seconds / 30)), code);
      assert.equal(matchingStep(code, secret, { nowMs: seconds * 1000 }), Math.floor(seconds / 30));
      assert.equal(matchingStep(code, secret, { nowMs: (seconds + 60) * 1000 }), undefined);
    });
  }
});

async function countsOfAttempts(): Promise<readonly unknown[]> {
  return store.table('loginAttempts', z.unknown()).list();
}

describe('an attempt whose password was not checked', () => {
  it('for lack of room is no failure of the person', async () => {
    const before = (await countsOfAttempts()).length;
    const names = Array.from({ length: 40 }, (_, at) => `busy-${at}`);
    const results = await Promise.all(
      names.map((name, at) =>
        verifyAccount(store, { name, password: 'x', address: `198.18.${at}.1`, now: () => now }),
      ),
    );
    const busy = names.filter((_, at) => results[at]!.kind === 'busy');
    assert.equal(busy.length, 18);
    assert.equal((await countsOfAttempts()).length - before, (names.length - busy.length) * 3);
    assert.ok(results.every((result) => result.kind === 'busy' || result.kind === 'refused'));
  });

  it('for a store that fails is none either', async () => {
    const before = await countsOfAttempts();
    const accounts = store.table('accounts', z.unknown());
    await accounts.put('damaged', { password: 'not a hash' });
    for (let at = 0; at < 9; at++)
      await assert.rejects(signIn('damaged', { address: '198.18.99.1' }), { code: 'STORE_UNAVAILABLE' });
    await accounts.delete('damaged');
    assert.deepEqual(await countsOfAttempts(), before);
  });

  it('because another count has to wait is counted nowhere', async () => {
    for (let at = 0; at < 20; at++)
      await beginAttempt(store, { name: `crowd-${at}`, address: '198.18.98.1' }, now);
    const before = await countsOfAttempts();
    assert.ok((await beginAttempt(store, { name: 'crowd-late', address: '198.18.98.1' }, now)) > 0);
    assert.deepEqual(await countsOfAttempts(), before);
  });
});

describe('password guessing', () => {
  // oxlint-disable-next-line consistent-function-scoping
  const attempt = (name: string, address: string): Promise<number> =>
    beginAttempt(store, { name, address }, now);

  it('waits after five failures from one network, longer each time, and locks no other person out', async () => {
    const waits: number[] = [];
    for (let at = 0; at < 10; at++) {
      const waitMs = await attempt('dora', '198.51.100.1');
      if (waitMs === 0) continue;
      waits.push(waitMs);
      // Trying does not make it longer.
      assert.equal(await attempt('dora', '198.51.100.1'), waitMs);
      now += waitMs;
    }
    assert.deepEqual(waits.slice(0, 3), [30_000, 60_000, 120_000]);
    assert.equal(await attempt('dora', '198.51.100.2'), 0);
    assert.equal(await attempt('erik', '198.51.100.1'), 0);
  });

  it('with many at once is no faster', async () => {
    const waits = await Promise.all(Array.from({ length: 100 }, () => attempt('frida', '198.51.100.3')));
    assert.equal(waits.filter((waitMs) => waitMs === 0).length, 5);
  });

  it('of one account from many places waits too', async () => {
    const waits: number[] = [];
    for (let at = 0; at < 30; at++) waits.push(await attempt('gustav', `203.0.113.${at}`));
    assert.equal(waits.filter((waitMs) => waitMs === 0).length, 20);
  });

  for (const [what, addressOf] of [
    ['one address', () => '198.51.100.9'],
    ['one network of IPv6', (at: number) => `2001:db8:1:2::${at.toString(16)}`],
  ] as const) {
    it(`of many accounts from ${what} waits too`, async () => {
      const waits: number[] = [];
      for (let at = 0; at < 30; at++) waits.push(await attempt(`${what} ${at}`, addressOf(at)));
      assert.equal(waits.filter((waitMs) => waitMs === 0).length, 20);
      assert.equal(await attempt('hanna', '2001:db8:1:3::1'), 0);
    });
  }

  it("cannot be covered by signing in to an account of one's own", async () => {
    for (let at = 0; at < 30; at++) {
      const own = { name: 'ida', address: '198.51.100.20' };
      if ((await beginAttempt(store, own, now)) === 0) await forgetFailures(store, own);
      await attempt(`victim ${at}`, '198.51.100.20');
    }
    assert.ok((await attempt('one more', '198.51.100.20')) > 0);
  });

  it('learns how long to wait, without a check of the password', async () => {
    for (let at = 0; at < 5; at++) await attempt('jose', '198.51.100.30');
    const result = await signIn('jose', { password: 'contrase\u00f1a larga', address: '198.51.100.30' });
    assert.deepEqual(result, { kind: 'refused', retryAfterMs: 30_000 });
  });
});
