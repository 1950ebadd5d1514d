import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { RuntimeDirectory, newInstanceName } from '../../../server/cluster/runtime-directory.ts';

describe('the runtime directory', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'postern-folder-'));
  after(() => rmSync(scratch, { recursive: true }));

  it('is for its owner alone, and not used when it is not', async () => {
    const directory = await RuntimeDirectory.open(join(scratch, 'one.ctl'));
    assert.equal(statSync(directory.directory).mode & 0o777, 0o700);
    for (const mode of [0o750, 0o701, 0o777]) {
      chmodSync(directory.directory, mode);
      await assert.rejects(RuntimeDirectory.open(join(scratch, 'one.ctl')), /chmod 700/);
    }
  });

  it('has a socket for each name, and for nothing else', async () => {
    const directory = await RuntimeDirectory.open(join(scratch, 'two.ctl'));
    for (let at = 0; at < 1000; at++)
      assert.equal(dirname(directory.socketOf(newInstanceName())!), directory.directory);
    for (const name of [
      '',
      '.',
      '..',
      '../../../x',
      'a/../../b',
      'abcdefg/',
      '/etc/passwd',
      'abc\0defgh',
      'short',
      'x'.repeat(41),
      'abcdefg\n',
      'ä'.repeat(8),
    ])
      assert.equal(directory.socketOf(name), undefined, JSON.stringify(name));
  });

  it('lists the instances that are alive, and removes what dead ones have left', async () => {
    const directory = await RuntimeDirectory.open(join(scratch, 'three.ctl'));
    const [own, living, dead] = ['own-own-', 'living--', 'dead----'];
    const servers = [own, living].map((name) =>
      createServer((socket) => socket.destroy()).listen({ path: directory.socketOf(name)! }),
    );
    await Promise.all(servers.map((server) => once(server, 'listening')));
    const source = `require('net').createServer().listen(${JSON.stringify(directory.socketOf(dead))}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', source]);
    assert.ok(existsSync(directory.socketOf(dead)!));
    assert.deepEqual(await directory.others(own), [directory.socketOf(living)]);
    assert.equal(existsSync(directory.socketOf(dead)!), false);
    for (const server of servers) server.close();
  });
});
