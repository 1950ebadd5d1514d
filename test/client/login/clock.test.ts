import assert from 'node:assert/strict';
import { globSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { needs } from '../../e2e/support/needs.ts';
import { Browser } from './browser.ts';
import { startGatewayProcess } from './gateway.ts';
import type { GatewayProcess } from './gateway.ts';
import { Home } from './home.ts';

const [library] = globSync('/usr/lib/*/faketime/libfaketime.so.1');

/** The wall clock of a person's machine, which can be set while a program runs; nothing else changes its time. */
class Clock {
  readonly home: Home;
  readonly #file: string;

  constructor(t: TestContext, gateway: GatewayProcess) {
    this.home = new Home(t, gateway.url);
    this.#file = join(this.home.path, 'clock');
    this.set('+0');
    Object.assign(this.home.env, {
      LD_PRELOAD: library!,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      // A clock that is set moves no timer.
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    });
  }

  /** Sets it this far off, as `+11m`, `-2h`, `+400d`. */
  set(offset: string): void {
    writeFileSync(this.#file, offset);
  }

  /** Has it set by the browser that a sign-in opens, before the person has signed in. */
  setWithBrowser(offset: string): void {
    const browser = this.home.env['BROWSER']!;
    const path = join(this.home.path, 'browser.sh');
    writeFileSync(
      path,
      `#!/bin/sh\nprintf %s '${offset}' >'${this.#file}'\nunset LD_PRELOAD\nexec ${browser.replace('%s', '"$1"')}\n`,
      {
        mode: 0o755,
      },
    );
    this.home.env['BROWSER'] = `${path} %s`;
  }
}

/** Everything that needs the sign-in works, and the refusals on the way are no more than one for each. */
async function assertWorks(home: Home): Promise<void> {
  for (const [args, stdout] of [
    [['connect', 'box'], 'hello alice\n'],
    [['hosts'], 'box:22\n'],
    [['ticket', 'box'], `pt_${'a'.repeat(43)}\n`],
  ] as const) {
    const done = await home.run(...args);
    assert.deepEqual([done.status, done.stdout], [0, stdout], `${args.join(' ')}: ${done.stderr}`);
  }
  const status = JSON.parse((await home.run('status', '--json')).stdout) as Record<string, unknown>;
  assert.deepEqual([status['signedIn'], status['confirmed'], status['problem']], [true, true, undefined]);
}

describe('a wall clock that jumps', { ...needs('faketime'), concurrency: 2 }, () => {
  const all = ['+11m', '-13h', '-11m', '+13h', '+400d', '-400d'];
  for (const offset of process.env['POSTERN_LONG'] === '1' ? all : all.slice(0, 2)) {
    it(`${offset} after the sign-in needs no other sign-in`, async (t) => {
      const gateway = await startGatewayProcess(t);
      const clock = new Clock(t, gateway);
      assert.equal((await clock.home.run('login')).status, 0);
      clock.set(offset);
      await assertWorks(clock.home);
      // And back again.
      clock.set('+0');
      await assertWorks(clock.home);
      assert.equal(clock.home.browsers, 1);
    });

    it(`${offset} before the sign-in does not stop it`, async (t) => {
      const gateway = await startGatewayProcess(t, {
        requireNonce: offset.startsWith('+'),
        tunnelNonce: 'n',
      });
      const clock = new Clock(t, gateway);
      clock.set(offset);
      const login = await clock.home.run('login');
      assert.equal(login.status, 0, login.stderr);
      await assertWorks(clock.home);
      assert.equal(clock.home.browsers, 1);
    });

    it(`${offset} during the sign-in does not stop it`, async (t) => {
      const gateway = await startGatewayProcess(t, { requireNonce: offset.startsWith('-') });
      const clock = new Clock(t, gateway);
      clock.setWithBrowser(offset);
      const login = await clock.home.run('login');
      assert.equal(login.status, 0, login.stderr);
      await assertWorks(clock.home);
      assert.equal(clock.home.browsers, 1);
    });
  }

  for (const offset of ['+11m', '-13h']) {
    it(`${offset} while a code is typed on another device does not stop the sign-in`, async (t) => {
      const gateway = await startGatewayProcess(t, { deviceFlow: true });
      const clock = new Clock(t, gateway);
      const login = clock.home.start(['login', '--device']);
      const code = await login.said(/type the code (\S+)/);
      clock.set(offset);
      await new Browser().visit(new URL('oauth/device', gateway.url).href, { code });
      const { status, stderr } = await login.finished;
      assert.equal(status, 0, stderr);
      await assertWorks(clock.home);
    });

    it(`${offset} when the token has to be renewed renews it`, async (t) => {
      const gateway = await startGatewayProcess(t, { accessSeconds: 2, requireNonce: true });
      const clock = new Clock(t, gateway);
      assert.equal((await clock.home.run('login')).status, 0);
      clock.set(offset);
      await assertWorks(clock.home);
      assert.ok((await gateway.counts()).tokens['refresh_token']! >= 1);
      assert.equal(clock.home.browsers, 1);
    });
  }
});
