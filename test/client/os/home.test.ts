import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { makeDirectory } from '../../../client/os/files.ts';
import { gatewayDouble } from '../entry/gateway-double.ts';
import { listen, readAll, temporaryDirectory } from '../support.ts';

const main = join(import.meta.dirname, '../../../client/main.ts');

/** Homes in which nothing can be kept, and how a shell comes to have one; `$DIR` is an empty directory. */
const homes: Readonly<Record<string, { home?: string; shell?: string; uid?: number; asRoot?: true }>> = {
  'is /proc, where Node.js makes directories for ever': { home: '/proc' },
  'is a device': { home: '/dev/null' },
  'is a file': { home: '$DIR/file' },
  'is below a file': { home: '$DIR/file/home' },
  'is empty': { home: '' },
  'is relative': { home: 'home' },
  'has too long a name': { home: `/${'x'.repeat(300)}` },
  'is on a full disk': { asRoot: true, shell: 'mount -t tmpfs -o size=8k,nr_inodes=1 none "$HOME"' },
  'is on a disk for reading only': { asRoot: true, shell: 'mount -t tmpfs -o ro none "$HOME"' },
  'belongs to a user who is not in the list of users': { asRoot: true, uid: 54_321, home: 'unset' },
};

const isRoot = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0;

async function echo(
  t: TestContext,
  name: string,
): Promise<{ code: unknown; stdout: string; stderr: string }> {
  const port = await listen(
    t,
    gatewayDouble((tunnel) => void readAll(tunnel).then((bytes) => tunnel.end(bytes))),
  );
  const { home, shell = ':', uid, asRoot } = homes[name]!;
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'empty'));
  writeFileSync(join(directory, 'file'), '');
  const argv = [process.execPath, main, 'connect', `--gateway=http://127.0.0.1:${port}/ssh/`, 'box'];
  const [program, ...args] =
    asRoot && uid === undefined ? (['unshare', '-m', 'sh'] as const) : (['sh'] as const);
  const child = spawn(program, [...args, '-c', `${shell} && exec "$@"`, 'sh', ...argv], {
    cwd: directory,
    env: {
      PATH: process.env['PATH'],
      POSTERN_TOKEN: 't0ken',
      ...(home === 'unset' ? {} : { HOME: home?.replace('$DIR', directory) ?? join(directory, 'empty') }),
    },
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(uid !== undefined && { uid, gid: uid }),
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  child.stdin.end('hello');
  const [[code], stdout, stderr] = await Promise.all([
    once(child, 'exit'),
    readAll(child.stdout),
    readAll(child.stderr),
  ]);
  return { code, stdout: stdout.toString(), stderr: stderr.toString() };
}

describe('postern connect', { concurrency: 3 }, () => {
  for (const [name, { asRoot }] of Object.entries(homes)) {
    const skip = asRoot && !isRoot ? 'needs root' : false;
    // A name that no file can have is a setting that no one meant.
    const isRefused = name.includes('too long');
    it(
      `${isRefused ? 'says so' : 'carries its bytes and ends'} when the home ${name}`,
      { skip },
      async (t) => {
        const { code, stdout, stderr } = await echo(t, name);
        if (isRefused) assert.match(`${String(code)} ${stderr}`, /^78 .*ENAMETOOLONG \(CONFIG_INVALID\)/);
        else assert.deepEqual([code, stdout, stderr], [0, 'hello', '']);
      },
    );
  }
});

describe('makeDirectory()', () => {
  it('makes the parents too, and leaves what is there alone', (t) => {
    const path = join(temporaryDirectory(t), 'a/b/c');
    makeDirectory(path);
    makeDirectory(path);
    assert.ok(existsSync(path));
  });

  it('returns below a directory that answers ENOENT for ever', { skip: !existsSync('/proc/self') }, () => {
    assert.throws(() => makeDirectory('/proc/a/b/c'), { code: 'ENOENT' });
  });

  it('says so when a file is in the way', (t) => {
    const file = join(temporaryDirectory(t), 'file');
    writeFileSync(file, '');
    assert.throws(() => makeDirectory(file), { code: 'EEXIST' });
    assert.throws(() => makeDirectory(join(file, 'a')), { code: 'ENOTDIR' });
  });
});
