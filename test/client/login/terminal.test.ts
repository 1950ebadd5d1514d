import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { own } from '../../e2e/support/process.ts';
import { temporaryDirectory } from '../support.ts';
import { Browser } from './browser.ts';
import { startGatewayProcess } from './gateway.ts';
import { Home, watch } from './home.ts';
import type { Command } from './home.ts';

const skip = spawnSync('script', ['--version']).error === undefined ? false : 'there is no script(1) here';

/** Runs a shell command in a terminal of its own; what the terminal shows counts as its stderr. */
function inTerminal(home: Home, command: string, env: Record<string, string> = {}): Command {
  const child = own(
    spawn('script', ['-qefc', `{ ${command}; } >&2`, '/dev/null'], {
      env: { ...home.env, SHELL: '/bin/sh', ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    }),
  );
  child.stdout.on('data', (chunk: Buffer) =>
    child.stderr.emit('data', Buffer.from(chunk.toString().replaceAll('\r', ''))),
  );
  return watch(child);
}

describe('in a terminal', { skip }, () => {
  it('50 parallel connects with no token make one sign-in', async (t) => {
    const many = 50;
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const [node, client] = home.postern;
    const results = temporaryDirectory(t);
    const one = `${node} ${client} connect box </dev/null >${results}/$i.out 2>${results}/$i.err; echo $? >${results}/$i.code`;
    const command = `for i in $(seq ${many}); do ( ${one} ) & done; wait`;
    assert.equal((await inTerminal(home, command).finished).status, 0);
    for (let index = 1; index <= many; index++) {
      const read = (name: string) => readFileSync(join(results, `${index}.${name}`), 'utf8');
      assert.equal(read('code'), '0\n', read('err'));
      assert.equal(read('out'), 'hello alice\n');
    }
    const { authorizations, tokens, tunnels } = await gateway.counts();
    assert.deepEqual(
      [home.browsers, authorizations, tokens, tunnels],
      [1, 1, { authorization_code: 1 }, many],
    );
  });

  it('connect finishes the sign-in also when ssh has lost its patience, for the next ssh', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url, { BROWSER: '' });
    const [node, client] = home.postern;
    const pidFile = join(home.path, 'pid');
    const command = `sh -c 'echo $$ >${pidFile}; exec ${node} ${client} connect box </dev/null'`;
    const waiting = inTerminal(home, command);
    const url = await waiting.said(/^(http:\S+)\n/m);
    process.kill(Number(readFileSync(pidFile, 'utf8')), 'SIGHUP');
    await new Browser().visit(url);
    assert.equal((await waiting.finished).status, 129);
    assert.equal((await gateway.counts()).tunnels, 0);
    assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
  });

  for (const env of [{ CI: '1' }, { POSTERN_NO_INPUT: '1' }]) {
    it(`connect opens no browser with ${Object.keys(env)[0]}`, async (t) => {
      const gateway = await startGatewayProcess(t);
      const home = new Home(t, gateway.url);
      const done = await inTerminal(home, `${home.postern.join(' ')} connect box`, env).finished;
      assert.equal(done.status, 77);
      assert.equal(home.browsers, 0);
    });
  }

  it('signs in with a code that is typed elsewhere', async (t) => {
    const gateway = await startGatewayProcess(t, { deviceFlow: true });
    const home = new Home(t, gateway.url);
    const login = inTerminal(home, `${home.postern.join(' ')} login --device`);
    const page = await login.said(/open (http:\S+\/device) and type the code/);
    const code = await login.said(/type the code ([A-Z-]+)\n/);
    // Another postern shows the same.
    const other = home.start(['login']);
    assert.equal(await other.said(/under way; open (http\S+) and type the code [A-Z-]+\n/), page);
    const { text } = await new Browser().visit(page, { code });
    assert.match(text, /signed|success/i);
    const done = await login.finished;
    assert.equal(done.status, 0);
    assert.match(done.stderr, /postern: signed in as alice/);
    assert.equal((await other.finished).status, 0);
    assert.equal(home.browsers, 0);
    assert.equal((await home.run('connect', 'box')).stdout, 'hello alice\n');
  });

  it('says so when the gateway wants no codes, and when nobody types one', async (t) => {
    const without = await startGatewayProcess(t);
    const refused = await new Home(t, without.url).run('login', '--device');
    assert.deepEqual([refused.status, /\(SIGN_IN_FAILED\)/.test(refused.stderr)], [77, true]);
    const brief = await startGatewayProcess(t, { deviceFlow: true, deviceSeconds: 1 });
    const late = await new Home(t, brief.url).run('login', '--device');
    assert.deepEqual([late.status, /\(SIGN_IN_TIMEOUT\)/.test(late.stderr)], [75, true]);
  });

  it('finds what a killed connect has left behind', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url, { BROWSER: '' });
    const killed = home.start(['login', '--no-browser']);
    await killed.said(/^(http:\S+)\n/m);
    killed.child.kill('SIGKILL');
    await killed.finished;
    const directory = home.directory(gateway.url);
    assert.ok(existsSync(join(directory, 'sign-in.lock')));
    writeFileSync(join(directory, 'renewal.lock'), readFileSync(join(directory, 'sign-in.lock')), {
      mode: 0o600,
    });
    const began = performance.now();
    const connecting = inTerminal(home, `${home.postern.join(' ')} connect box </dev/null`);
    const url = await connecting.said(/^(http:\S+)\n/m);
    assert.ok(performance.now() - began < 3000);
    await new Browser().visit(url);
    assert.equal((await connecting.finished).status, 0);
  });
});
