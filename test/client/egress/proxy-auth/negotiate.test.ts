import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { loadKerberos } from '../../../../client/egress/proxy-auth/kerberos-package.ts';
import type { Kerberos, KerberosOptions } from '../../../../client/egress/proxy-auth/kerberos-package.ts';
import { negotiate } from '../../../../client/egress/proxy-auth/negotiate.ts';
import { parseChallenges } from '../../../../client/egress/proxy-auth/challenge.ts';
import { SchemeUnavailable } from '../../../../client/egress/proxy-auth/scheme.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { temporaryDirectory } from '../../support.ts';

const asking = { proxyHost: 'proxy.example', authority: 'gw.example:443' };

/** The package as it is on a system that answers with these tokens; what it was asked is noted. */
function packageWith(tokens: readonly (string | null)[]): Kerberos & { readonly asked: unknown[] } {
  const asked: unknown[] = [];
  let step = 0;
  return {
    asked,
    GSS_MECH_OID_SPNEGO: 6,
    initializeClient: (service: string, options: KerberosOptions) => {
      asked.push([service, options]);
      return Promise.resolve({
        contextComplete: false,
        get response() {
          return tokens[step - 1] ?? null;
        },
        step: (challenge: string) => {
          asked.push(challenge);
          step++;
          return Promise.resolve();
        },
      });
    },
  };
}

const offer = (text: string): ReturnType<typeof parseChallenges> => parseChallenges(text);

describe('negotiate()', () => {
  it('asks for a ticket for the proxy, and takes as many legs as it wants', async () => {
    const kerberos = packageWith(['b25l', 'dHdv']);
    const talk = negotiate(asking, { load: () => kerberos, platform: 'linux' });
    assert.ok(!talk.isInProgress);
    assert.equal(await talk.answer(offer('Negotiate')), 'Negotiate b25l');
    assert.ok(talk.isInProgress);
    assert.equal(await talk.answer(offer('Negotiate cHJveHk=')), 'Negotiate dHdv');
    assert.equal(await talk.answer(offer('Negotiate ZW5k')), undefined);
    assert.deepEqual(kerberos.asked, [
      ['HTTP@proxy.example', { mechOID: 6, flags: 0 }],
      '',
      'cHJveHk=',
      'ZW5k',
    ]);
    assert.ok(!talk.hasSentCredential);
  });

  it('takes an offer without a token for a refusal', async () => {
    const talk = negotiate(asking, { load: () => packageWith(['b25l']), platform: 'linux' });
    await talk.answer(offer('Negotiate'));
    assert.equal(await talk.answer(offer('Negotiate')), undefined);
  });

  it('signs in on Windows as whoever is logged on, or as who is given', async () => {
    const credentials = { user: String.raw`CORP\alice`, password: new Secret('p'), source: 'test' };
    const [own, given] = [packageWith(['b25l']), packageWith(['b25l'])];
    await negotiate(asking, { load: () => own, platform: 'win32' }).answer([]);
    const talk = negotiate(asking, { load: () => given, platform: 'win32', credentials });
    await talk.answer([]);
    const common = { mechOID: 6, flags: 0 };
    assert.deepEqual(own.asked[0], ['HTTP/proxy.example', common]);
    const who = { user: 'alice', domain: 'CORP', password: 'p' };
    assert.deepEqual(given.asked[0], ['HTTP/proxy.example', { ...common, ...who }]);
    assert.ok(talk.hasSentCredential);
  });

  it('says what Kerberos says when there is no ticket, and how to get one', async () => {
    const broken = {
      ...packageWith([]),
      initializeClient: () => Promise.reject(new Error('no \u001b[31mticket')),
    };
    const talk = negotiate(asking, { load: () => broken, platform: 'linux' });
    await assert.rejects(talk.answer([]) as Promise<unknown>, (error: SchemeUnavailable) => {
      assert.ok(error instanceof SchemeUnavailable);
      assert.equal(error.hint, 'kinit');
      assert.ok(!error.message.includes('\u001b'));
      return true;
    });
  });

  it('does not even try a proxy that is given by address', async () => {
    const talk = negotiate({ ...asking, proxyHost: '10.0.0.1' }, { load: loadKerberos, platform: 'linux' });
    await assert.rejects(talk.answer([]) as Promise<unknown>, SchemeUnavailable);
  });
});

/** A folder with such a package in its node_modules. */
function folderWith(t: Parameters<typeof temporaryDirectory>[0], code: string): string {
  const top = temporaryDirectory(t);
  const folder = join(top, 'node_modules/kerberos');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{"name":"kerberos","version":"1.0.0","main":"index.js"}');
  writeFileSync(join(folder, 'index.js'), code);
  return top;
}

describe('loadKerberos()', () => {
  it('finds what has been installed beside the program or above it', (t) => {
    const top = folderWith(t, 'module.exports = { GSS_MECH_OID_SPNEGO: 6 };');
    assert.equal(loadKerberos(join(top, 'bin/postern.cjs')).GSS_MECH_OID_SPNEGO, 6);
  });

  it('says how to install it when it is not there', (t) => {
    assert.throws(() => loadKerberos(join(temporaryDirectory(t), 'postern.cjs')), {
      hint: 'npm install --global kerberos',
    });
  });

  it('does not load what others could have put there', (t) => {
    const top = folderWith(t, 'throw new Error("loaded")');
    chmodSync(join(top, 'node_modules'), 0o777);
    assert.throws(() => loadKerberos(join(top, 'postern.cjs')), /other users could have put it there/);
  });

  it('says what is wrong with one that cannot be loaded', (t) => {
    const top = folderWith(t, 'throw Object.assign(new Error("no binary"), { code: "ERR_DLOPEN_FAILED" })');
    assert.throws(() => loadKerberos(join(top, 'postern.cjs')), /cannot be loaded: ERR_DLOPEN_FAILED/);
  });
});
