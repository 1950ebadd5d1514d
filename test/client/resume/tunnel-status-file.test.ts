import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ownIdentity } from '../../../client/os/process-identity.ts';
import { tunnelFile, tunnelsHere } from '../../../client/resume/tunnel-status-file.ts';
import { temporaryDirectory } from '../support.ts';

const names = { gateway: new URL('https://gw.example/ssh/'), target: { host: '2001:db8::1', port: 22 } };

/** The name of the file that another process of this machine would have. */
function fileOf(state: string, pid: number): string {
  const directory = join(state, 'tunnels');
  mkdirSync(directory, { recursive: true });
  return join(
    directory,
    `${hostname()
      .replaceAll(/[^\w-]/g, '_')
      .slice(0, 64)}.${pid}.json`,
  );
}

async function endedPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  return child.pid!;
}

/** What this process writes about a tunnel. */
function contentIn(state: string): Record<string, unknown> {
  const file = tunnelFile(state, names);
  file.opened();
  return JSON.parse(readFileSync(fileOf(state, process.pid), 'utf8')) as Record<string, unknown>;
}

describe('tunnelFile() and tunnelsHere()', () => {
  it('show a tunnel from its opening over losses to its end', (t) => {
    const state = temporaryDirectory(t);
    assert.deepEqual(tunnelsHere(state), []);
    const file = tunnelFile(state, names);
    assert.deepEqual(tunnelsHere(state), []);
    file.opened();
    const [opened, ...others] = tunnelsHere(state);
    assert.deepEqual(others, []);
    const { since, changed, ...facts } = opened!;
    assert.deepEqual(facts, {
      target: '[2001:db8::1]:22',
      gateway: 'https://gw.example/ssh/',
      resumable: true,
      state: 'connected',
      resumes: 0,
      pid: process.pid,
    });
    assert.ok(Date.parse(since) <= Date.parse(changed));
    assert.equal(statSync(fileOf(state, process.pid)).mode & 0o777, 0o600);
    file.lost();
    assert.equal(tunnelsHere(state)[0]!.state, 'reconnecting');
    file.resumed();
    file.resumed();
    const [resumed] = tunnelsHere(state);
    assert.deepEqual([resumed!.state, resumed!.resumes, resumed!.since], ['connected', 2, since]);
    file.ended();
    assert.deepEqual(readdirSync(join(state, 'tunnels')), []);
  });

  it('take away what processes have left that ended without doing so', async (t) => {
    const state = temporaryDirectory(t);
    const content = contentIn(state);
    const gone = await endedPid();
    writeFileSync(fileOf(state, gone), JSON.stringify({ ...content, pid: gone }));
    // The number belongs to another process by now: this one's parent.
    writeFileSync(
      fileOf(state, process.ppid),
      JSON.stringify({ ...content, pid: process.ppid, started: '1' }),
    );
    writeFileSync(`${fileOf(state, 7)}.${gone}.0123abcd.tmp`, '{');
    assert.deepEqual(
      tunnelsHere(state).map(({ pid }) => pid),
      [process.pid],
    );
    assert.equal(readdirSync(join(state, 'tunnels')).length, 1);
  });

  it('do so too when there are many, without anybody asking', async (t) => {
    const state = temporaryDirectory(t);
    const content = contentIn(state);
    const gone = await endedPid();
    for (let at = 0; at < 30; at++)
      writeFileSync(fileOf(state, 1_000_000_000 + at), JSON.stringify({ ...content, pid: gone }));
    tunnelFile(state, names).opened();
    // Both of this process.
    assert.equal(readdirSync(join(state, 'tunnels')).length, 2);
  });

  it('show each tunnel of a process that has several, until it ends', (t) => {
    const state = temporaryDirectory(t);
    const files = ['a', 'b', 'c'].map((host) => tunnelFile(state, { ...names, target: { host, port: 22 } }));
    for (const file of files) file.opened();
    files[1]!.lost();
    const shown = (): readonly string[] =>
      tunnelsHere(state)
        .map(({ target, state: how }) => `${target} ${how}`)
        .toSorted();
    assert.deepEqual(shown(), ['a:22 connected', 'b:22 reconnecting', 'c:22 connected']);
    for (const file of files.slice(0, 2)) file.ended();
    assert.deepEqual(shown(), ['c:22 connected']);
  });

  it('leave the processes of another machine with the same home alone, and do not show them', (t) => {
    const state = temporaryDirectory(t);
    const content = contentIn(state);
    const path = join(state, 'tunnels', 'elsewhere.1.json');
    writeFileSync(path, JSON.stringify({ ...content, ...ownIdentity(), host: 'elsewhere', pid: 1 }));
    assert.equal(tunnelsHere(state).length, 1);
    assert.ok(statSync(path).isFile());
  });

  for (const damage of ['', '{', 'null', '7', '{"version":1}', '{"version":2}', 'x'.repeat(5000)]) {
    it(`take ${JSON.stringify(damage.slice(0, 20))} for nothing`, (t) => {
      const state = temporaryDirectory(t);
      writeFileSync(fileOf(state, process.pid), damage);
      assert.deepEqual(tunnelsHere(state), []);
    });
  }

  it('follow no link, and mind no directory that cannot be written', (t) => {
    const state = temporaryDirectory(t);
    symlinkSync('/etc/hostname', fileOf(state, process.pid));
    assert.deepEqual(tunnelsHere(state), []);
    const file = tunnelFile('/dev/null/state', names);
    file.opened();
    file.lost();
    file.resumed();
    file.ended();
    assert.deepEqual(tunnelsHere('/dev/null/state'), []);
  });
});
