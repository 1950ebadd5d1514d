import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { gatewayCommand } from '../../e2e/support/gateway.ts';
import { logs } from '../../e2e/support/generations.ts';
import { eventually, freePort, run, start } from '../../e2e/support/process.ts';
import type { Running } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { startEcho } from '../support/gateway-parts.ts';

const scratch = openScratch();
const isLong = process.env['POSTERN_LONG'] === '1';

interface Place {
  readonly folder: string;
  readonly config: string;
  readonly port: number;
}

async function newPlace(name: string, settings: object = {}): Promise<Place> {
  const folder = scratch.path(name);
  mkdirSync(folder, { mode: 0o700 });
  const port = await freePort();
  const config = join(folder, 'postern.yaml');
  const text = JSON.stringify({
    listen: `127.0.0.1:${port}`,
    admin: `unix:${join(folder, 'admin.sock')}`,
    control: `unix:${join(folder, 'control.sock')}`,
    publicUrl: `http://127.0.0.1:${port}/ssh/`,
    keyFile: join(folder, 'key.json'),
    store: { file: join(folder, 'postern.db') },
    audit: { file: join(folder, 'audit.jsonl') },
    network: { allow: ['127.0.0.1/32'] },
    workers: 2,
    ...settings,
  });
  writeFileSync(config, text, { mode: 0o600 });
  return { folder, config, port };
}

/** A command of the gateway with this umask. */
function withUmask(umask: string, ...args: readonly string[]): readonly string[] {
  return ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh', ...gatewayCommand, ...args];
}

/** The files below a folder that others than their owner can use, with their modes. */
function openFilesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).flatMap((name) => {
    const { mode } = lstatSync(join(folder, name), { throwIfNoEntry: false }) ?? { mode: 0 };
    return (mode & 0o077) === 0 ? [] : [`${name} ${(mode & 0o7777).toString(8)}`];
  });
}

describe('the files of a gateway', { concurrency: true }, () => {
  for (const umask of isLong ? ['000', '022'] : ['000']) {
    it(`are private with umask ${umask}: accounts, tickets, workers, takeover, audit`, async () => {
      const echo = await startEcho();
      const place = await newPlace(`umask-${umask}`, {
        targets: { echo: { address: `127.0.0.1:${echo.port}` } },
        rules: [{ groups: ['dev'], targets: ['echo'] }],
      });
      const command = async (...args: string[]): Promise<string> => {
        const options = { input: 'a long enough password\n' };
        const { code, stdout, stderr } = await run(
          withUmask(umask, ...args, '--config', place.config),
          options,
        );
        assert.equal(code, 0, stderr.toString());
        return stdout.toString().trim();
      };
      // Before the gateway itself: whichever makes a file first makes it private.
      await command('user', 'add', 'alice', '--group', 'dev', '--password-stdin');
      const token = await command('token', '--subject', 'tester', '--group', 'dev');
      const serve = (): Promise<Running> =>
        start(scratch, withUmask(umask, 'serve', '--config', place.config), { port: place.port });
      const first = await serve();
      await logs(first, 'listening');
      const authorization = `Bearer ${token}`;
      const ticket = await fetch(`http://127.0.0.1:${place.port}/ssh/api/tickets`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify({ targets: ['echo'] }),
      });
      assert.equal(Math.floor(ticket.status / 100), 2, await ticket.text());
      const tunnel = connect(place.port, '127.0.0.1').on('error', () => {});
      tunnel.write(`CONNECT echo:22 HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\n\r\n`);
      assert.match(String(await new Promise((resolve) => tunnel.once('data', resolve))), / 200 /);
      assert.deepEqual(openFilesIn(place.folder), []);
      const second = await serve();
      await logs(second, 'listening');
      renameSync(join(place.folder, 'audit.jsonl'), join(place.folder, 'audit.jsonl.1'));
      second.signal('SIGUSR1');
      await eventually(() => existsSync(join(place.folder, 'audit.jsonl')));
      // Two generations, with sockets, locks and the files of the store that exist while it is open.
      const there = readdirSync(place.folder);
      for (const name of [
        'admin.sock',
        'control.sock',
        'postern.db-wal',
        'postern.db-shm',
        'key.json',
        '.audit.jsonl.lock',
      ])
        assert.equal(there.includes(name), true, `${name} is not in ${there.join(' ')}`);
      assert.deepEqual(openFilesIn(place.folder), []);
      tunnel.destroy();
      await first.stop();
      await second.stop();
      assert.deepEqual(openFilesIn(place.folder), []);
      echo.close();
    });
  }

  it('are refused or made private when others can open them already', async () => {
    const place = await newPlace('open-to-others', { workers: 1 });
    const serve = withUmask('022', 'serve', '--config', place.config);
    const started = await start(scratch, serve, { port: place.port });
    await logs(started, 'listening');
    await started.stop();
    for (const name of ['postern.db', 'key.json']) {
      chmodSync(join(place.folder, name), 0o644);
      const { code, stderr } = await run(serve);
      assert.notEqual(code, 0);
      assert.match(stderr.toString(), new RegExp(`other users can read .*chmod 600 .*${name}`));
      chmodSync(join(place.folder, name), 0o600);
    }
    chmodSync(join(place.folder, 'control.sock.d'), 0o755);
    assert.match((await run(serve)).stderr.toString(), /run: chmod 700 .*control\.sock\.d/);
    chmodSync(join(place.folder, 'control.sock.d'), 0o700);

    // The lock of earlier versions, which was 0644, and what is beside the audit.
    writeFileSync(join(place.folder, 'postern.db-audit'), '', { mode: 0o644 });
    for (const name of [
      '.audit.jsonl.lock',
      '.audit.jsonl.head',
      'control.sock.d/takeover.lock',
      'audit.jsonl',
    ])
      chmodSync(join(place.folder, name), 0o644);
    const again = await start(scratch, serve, { port: place.port });
    await logs(again, 'other users could open a file of the audit; its mode was changed');
    await again.stop();
    // A group that reads the audit is meant to.
    assert.deepEqual(openFilesIn(place.folder), ['audit.jsonl 640']);
    assert.equal(readFileSync(join(place.folder, 'audit.jsonl'), 'utf8').includes('"event":"start"'), true);
  });
});
