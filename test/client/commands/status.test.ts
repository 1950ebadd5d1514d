import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { describe as describeStatus, status as runStatus } from '../../../client/commands/status.ts';
import type { Status } from '../../../client/commands/status.ts';
import { clearLastError, reportError } from '../../../client/errors/report.ts';
import { tunnelFile } from '../../../client/resume/tunnel-status-file.ts';
import { ClientError } from '../../../client/errors/failure.ts';
import { temporaryDirectory, unsignedToken } from '../support.ts';

/** Without asking the gateway: test/client/login/ has one to ask. */
async function status(env: Record<string, string>, ...args: string[]) {
  const printed: string[] = [];
  const code = await runStatus([...args, '--offline'], env, (text) => printed.push(text));
  return { code, stdout: printed.join('') };
}

describe('postern status', () => {
  it('says who, where and until when, and what went wrong last', async (t) => {
    const home = temporaryDirectory(t);
    reportError(
      new ClientError('TARGET_DENIED', 'no', { requestId: 'r1' }),
      join(home, '.local/state/postern'),
      'db1',
    );
    const env = {
      HOME: home,
      POSTERN_GATEWAY: 'https://gw.example/ssh',
      POSTERN_TOKEN: unsignedToken({ sub: 'alice', iss: 'https://id.example', exp: 4_000_000_000 }),
    };
    const { code, stdout } = await status(env, '--json');
    const { lastError, ...rest } = JSON.parse(stdout) as Status;
    assert.equal(code, 0);
    assert.deepEqual(rest, {
      version: 1,
      gateway: 'https://gw.example/ssh/',
      signedIn: true,
      confirmed: false,
      subject: 'alice',
      issuer: 'https://id.example',
      expiresAt: '2096-10-02T07:06:40.000Z',
      tokenFrom: 'POSTERN_TOKEN',
      tunnels: [],
    });
    assert.deepEqual(
      [lastError?.code, lastError?.target, lastError?.requestId],
      ['TARGET_DENIED', 'db1', 'r1'],
    );
    const text = (await status(env)).stdout;
    for (const part of ['alice', 'https://gw.example/ssh/', '2096-10-02', 'TARGET_DENIED']) {
      assert.ok(text.includes(part), part);
    }
    assert.ok(!text.includes(env.POSTERN_TOKEN));
  });

  for (const [what, env, expected] of [
    ['no token', {}, 77],
    ['an expired token', { POSTERN_TOKEN: unsignedToken({ exp: 1 }) }, 77],
    ['a token file that is not there', { POSTERN_TOKEN_FILE: '/does/not/exist' }, 'CONFIG_INVALID'],
    ['a token that says nothing', { POSTERN_TOKEN: 'ticket' }, 0],
    ['a gateway that is none', { POSTERN_GATEWAY: 'http://gw.example/' }, 'CONFIG_INVALID'],
  ] as const) {
    it(`ends with ${expected} for ${what}`, async (t) => {
      const home = temporaryDirectory(t);
      const whole = { HOME: home, POSTERN_GATEWAY: 'https://gw.example/', ...env };
      if (typeof expected === 'number') assert.equal((await status(whole, '--json')).code, expected);
      else await assert.rejects(status(whole, '--json'), { code: expected });
    });
  }

  it('says which tunnels are open from here, and whether they are connected', async (t) => {
    const home = temporaryDirectory(t);
    const env = { HOME: home, POSTERN_GATEWAY: 'https://gw.example/ssh/', POSTERN_TOKEN: 'ticket' };
    const target = { host: 'box', port: 22 };
    const gateway = new URL('https://other.example/ssh/');
    const file = tunnelFile(join(home, '.local/state/postern'), { gateway, target });
    file.opened();
    file.lost();
    file.resumed();
    const { tunnels } = JSON.parse((await status(env, '--json')).stdout) as Status;
    assert.deepEqual(
      tunnels?.map(({ target, gateway, state, resumes }) => [target, gateway, state, resumes]),
      [['box:22', 'https://other.example/ssh/', 'connected', 1]],
    );
    assert.match(
      (await status(env)).stdout,
      /^from here +box:22 through https:\/\/other\.example\/ssh\/, connected, open since \S+Z, resumed once$/m,
    );
    file.lost();
    assert.match((await status(env)).stdout, /^from here +box:22 .*, reconnecting since \S+Z, open since/m);
    file.ended();
    assert.doesNotMatch((await status(env)).stdout, /from here/);
  });

  it('says of a tunnel that it cannot be resumed', async (t) => {
    const home = temporaryDirectory(t);
    const env = { HOME: home, POSTERN_GATEWAY: 'https://gw.example/ssh/', POSTERN_TOKEN: 'ticket' };
    const state = join(home, '.local/state/postern');
    const gateway = new URL('https://gw.example/ssh/');
    const files = ['mortal', 'resumable'].map((host) =>
      tunnelFile(state, { gateway, target: { host, port: 22 } }),
    );
    t.after(() => files.forEach((file) => file.ended()));
    files[0]!.opened({ resumable: false });
    files[1]!.opened({ resumable: true });
    const { tunnels } = JSON.parse((await status(env, '--json')).stdout) as Status;
    assert.deepEqual(tunnels?.map(({ target, resumable }) => [target, resumable]).toSorted(), [
      ['mortal:22', false],
      ['resumable:22', true],
    ]);
    const text = (await status(env)).stdout;
    assert.match(text, /^from here +mortal:22, .*, cannot be resumed: it ends with its connection$/m);
    assert.match(text, /^from here +resumable:22, connected, open since \S+Z$/m);
  });

  it('names the end of the sign-in, not that of its token, and forgets what is over', () => {
    const common = { version: 1, gateway: 'x', signedIn: true, confirmed: true, subject: 'alice' } as const;
    const expiresAt = new Date(Date.now() + 600_000).toISOString();
    const until = new Date(Date.now() + 11 * 3_600_000 + 52.5 * 60_000).toISOString();
    const text = describeStatus({ ...common, expiresAt, until }, true);
    assert.match(text, /^until +\d{4}-\d\d-\d\d \d\d:\d\d \(11 h 52 min\)$/m);
    assert.doesNotMatch(describeStatus({ ...common, expiresAt }, true), /^until/m);
    assert.match(describeStatus({ ...common, expiresAt }), /^until .*\((?:9|10) min\)$/m);
  });

  it('says what to do now rather than what to do about an old failure', async (t) => {
    const home = temporaryDirectory(t);
    const state = join(home, '.local/state/postern');
    const env = { HOME: home, POSTERN_GATEWAY: 'https://gw.example/ssh/' };
    reportError(new ClientError('GATEWAY_UNSET', 'no gateway is set', { hint: 'postern setup' }), state);
    assert.match((await status(env)).stdout, /^hint +postern login$/m);
    reportError(new ClientError('USAGE', 'connect needs a host'), state);
    assert.doesNotMatch((await status(env)).stdout, /connect needs a host/);
    clearLastError(state);
    assert.doesNotMatch((await status(env)).stdout, /last error/);
  });

  it('does not let a token write to the terminal', () => {
    const text = describeStatus({
      version: 1,
      gateway: 'x',
      signedIn: true,
      confirmed: false,
      subject: '\x1b[2J\nroot',
    });
    assert.match(text, /^[\x20-\x7e\n]*$/);
    assert.equal(text.split('\n').length, 3);
  });
});
