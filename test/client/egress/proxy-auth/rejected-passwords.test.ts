import assert from 'node:assert/strict';
import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { Refusals } from '../../../../client/egress/proxy-auth/rejected-passwords.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { temporaryDirectory } from '../../support.ts';

const proxy = 'http://proxy.example:3128';
const alice = { user: 'alice', password: new Secret('canary'), source: 'test' };
/** Passwords that cannot all share one of a thousand marks. */
const others = ['a', 'b', 'c', 'd'].map((text) => ({ ...alice, password: new Secret(text) }));

describe('Refusals', () => {
  it('remembers for ten minutes that a proxy has refused a password, in another process too', (t) => {
    const state = temporaryDirectory(t);
    let now = 1_000_000;
    const refusals = new Refusals(state, () => now);
    assert.equal(refusals.ageOf(proxy, alice), undefined);
    refusals.keep(proxy, alice);
    now += 60_000;
    const again = new Refusals(state, () => now);
    assert.equal(again.ageOf(proxy, alice), 60_000);
    assert.equal(again.ageOf('http://other.example:3128', alice), undefined);
    assert.equal(again.ageOf(proxy, { ...alice, user: 'bob' }), undefined);
    assert.ok(others.some((other) => again.ageOf(proxy, other) === undefined));
    now += 9 * 60_000;
    assert.equal(again.ageOf(proxy, alice), undefined);
    // A clock that was put back.
    now = 999_999;
    assert.equal(again.ageOf(proxy, alice), undefined);
  });

  it('keeps nothing from which the password could be had, for this user alone', (t) => {
    const refusals = new Refusals(temporaryDirectory(t));
    refusals.keep(proxy, alice);
    const text = readFileSync(refusals.path, 'utf8');
    assert.ok(!text.includes('canary'));
    assert.ok((JSON.parse(text) as { mark: number }[])[0]!.mark < 1024);
    assert.equal(statSync(refusals.path).mode & 0o777, 0o600);
  });

  for (const text of ['', '{', 'null', '[null, 1, {"proxy": 1}]', '{"at": 1}']) {
    it(`goes on with a file that holds ${JSON.stringify(text)}`, (t) => {
      const refusals = new Refusals(temporaryDirectory(t));
      writeFileSync(refusals.path, text);
      assert.equal(refusals.ageOf(proxy, alice), undefined);
      refusals.keep(proxy, alice);
      assert.ok(refusals.ageOf(proxy, alice) !== undefined);
    });
  }

  it('does not fail where nothing can be written', (t) => {
    const state = temporaryDirectory(t);
    chmodSync(state, 0o500);
    const refusals = new Refusals(`${state}/none\0`);
    refusals.keep(proxy, alice);
    assert.equal(refusals.ageOf(proxy, alice), undefined);
  });
});
