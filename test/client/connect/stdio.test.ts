import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { openSync, closeSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { carry } from '../../../client/connect/stdio.ts';
import { entryNames } from '../../../protocol/entries.ts';
import { gatewayDouble } from '../entry/gateway-double.ts';
import { listen, readAll, temporaryDirectory } from '../support.ts';

const main = join(import.meta.dirname, '../../../client/main.ts');
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; stdout: Buffer; stderr: string }>;
}

/** Starts `postern connect` against a gateway that gives its tunnels to `serve`. */
async function run(
  t: TestContext,
  serve: (tunnel: Duplex) => void,
  options: { via?: string; stdin?: number | 'pipe'; stdout?: number | 'pipe' } = {},
): Promise<Run> {
  const port = await listen(t, gatewayDouble(serve));
  const home = temporaryDirectory(t);
  const { via = 'connect', stdin = 'pipe', stdout = 'pipe' } = options;
  const flags = ['--gateway', `http://127.0.0.1:${port}/ssh/`, '--via', via];
  const child = spawn(process.execPath, [main, 'connect', ...flags, '--', 'box', '22'], {
    stdio: [stdin, stdout, 'pipe'],
    env: { HOME: home, POSTERN_TOKEN: 't0ken', PATH: process.env['PATH'] },
  });
  t.after(() => child.kill('SIGKILL'));
  child.stdin?.on('error', () => {});
  const outputs = [
    child.stdout ? readAll(child.stdout) : Promise.resolve(Buffer.alloc(0)),
    readAll(child.stderr!),
  ];
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const ended = Promise.all([exited, ...outputs] as const).then(([[code], out, err]) => ({
    code,
    stdout: out!,
    stderr: err!.toString(),
  }));
  return { child, ended };
}

describe('postern connect, as a process', () => {
  for (const via of entryNames) {
    it(`carries 20 MiB each way and the end of the input, by ${via}`, async (t) => {
      const sent = randomBytes(20 * 1024 * 1024);
      const { child, ended } = await run(
        t,
        (tunnel) => void readAll(tunnel).then((bytes) => tunnel.end(bytes)),
        { via },
      );
      child.stdin!.end(sent);
      const { code, stdout, stderr } = await ended;
      assert.deepEqual([code, stderr, sha256(stdout)], [0, '', sha256(sent)]);
    });

    it(`exits when the far side has ended although the input stays open, by ${via}`, async (t) => {
      const { child, ended } = await run(t, (tunnel) => void tunnel.end('bye'), { via });
      const { code, stdout } = await ended;
      assert.deepEqual([code, stdout.toString(), child.stdin!.writableEnded], [0, 'bye', false]);
    });

    it(`says that the tunnel was lost when it breaks, after giving out what came before, by ${via}`, async (t) => {
      const { ended } = await run(
        t,
        (tunnel) => {
          tunnel.write('half');
          tunnel.once('data', () => {
            if ('resetAndDestroy' in tunnel)
              (tunnel as Duplex & { resetAndDestroy(): void }).resetAndDestroy();
            else tunnel.destroy(new Error('broken'));
          });
        },
        { via },
      ).then(({ child, ended }) => {
        child.stdout!.once('data', () => child.stdin!.write('now'));
        return { ended };
      });
      const { code, stdout, stderr } = await ended;
      assert.deepEqual([code, stdout.toString()], [75, 'half']);
      assert.match(stderr, /\(TUNNEL_LOST\)/);
    });
  }

  it('waits for a slow reader: what has come is written before it exits', async (t) => {
    const sent = randomBytes(8 * 1024 * 1024);
    const { child, ended } = await run(t, (tunnel) => void tunnel.end(sent));
    child.stdout!.pause();
    await once(child.stdout!, 'readable');
    child.stdout!.resume();
    assert.equal(sha256((await ended).stdout), sha256(sent));
  });

  it('takes only what its reader takes', async (t) => {
    let written = 0;
    const chunk = Buffer.alloc(64 * 1024);
    const stalled = Promise.withResolvers<void>();
    const { child } = await run(t, (tunnel) => {
      const fill = (): void => {
        while (tunnel.write(chunk)) written += chunk.length;
        written += chunk.length;
        const patience = setTimeout(() => stalled.resolve(), 500);
        tunnel.once('drain', () => {
          clearTimeout(patience);
          if (written < 256 * 1024 * 1024) fill();
          else stalled.reject(new Error('it reads without end'));
        });
      };
      fill();
    });
    child.stdout!.removeAllListeners('data').pause();
    await stalled.promise;
    assert.ok(written < 64 * 1024 * 1024, `${written} bytes`);
  });

  it('reads its input from a file', async (t) => {
    const path = join(temporaryDirectory(t), 'input');
    const sent = randomBytes(1024 * 1024);
    writeFileSync(path, sent);
    const stdin = openSync(path, 'r');
    const { ended } = await run(
      t,
      (tunnel) => void readAll(tunnel).then((bytes) => tunnel.end(sha256(bytes))),
      { stdin },
    );
    closeSync(stdin);
    const { code, stdout } = await ended;
    assert.deepEqual([code, stdout.toString()], [0, sha256(sent)]);
  });

  it('takes /dev/null for an input that has ended, and still waits for the answer', async (t) => {
    const stdin = openSync('/dev/null', 'r');
    const { ended } = await run(
      t,
      (tunnel) => {
        tunnel.resume().once('end', () => setTimeout(() => tunnel.end('late'), 200));
      },
      { stdin },
    );
    closeSync(stdin);
    const { code, stdout } = await ended;
    assert.deepEqual([code, stdout.toString()], [0, 'late']);
  });

  it('writes its output to a file', async (t) => {
    const path = join(temporaryDirectory(t), 'output');
    const stdout = openSync(path, 'w');
    const sent = randomBytes(1024 * 1024);
    const { ended } = await run(t, (tunnel) => void tunnel.end(sent), { stdout });
    closeSync(stdout);
    assert.equal((await ended).code, 0);
    assert.ok(readFileSync(path).equals(sent));
  });

  it('leaves quietly when nobody reads its output any more', async (t) => {
    const { child, ended } = await run(t, (tunnel) => {
      const timer = setInterval(() => tunnel.write('more\n'), 5);
      tunnel.once('close', () => clearInterval(timer));
    });
    await once(child.stdout!, 'data');
    child.stdout!.destroy();
    const [code] = (await once(child, 'exit')) as [number];
    assert.equal(code, 0);
    void ended.catch(() => {});
  });

  for (const via of ['relay', 'connect', 'http']) {
    it(`ends the tunnel in order when its caller leaves as ssh does, with both pipes at once, by ${via}`, async (t) => {
      const received = Promise.withResolvers<false | Buffer>();
      const { child } = await run(t, (tunnel) => received.resolve(tunnel.write('ready') && readAll(tunnel)), {
        via,
      });
      await once(child.stdout!, 'data');
      child.stdin!.end('last words');
      child.stdout!.destroy();
      assert.deepEqual(await once(child, 'exit'), [0, null]);
      assert.equal(String(await received.promise), 'last words');
    });
  }

  it('says so when its output cannot be written, and does not take that for a reader that left', async (t) => {
    const stdout = openSync('/dev/full', 'w');
    const { ended } = await run(t, (tunnel) => void tunnel.end('lost'), { stdout });
    closeSync(stdout);
    const { code, stderr } = await ended;
    assert.equal(code, 74);
    assert.match(stderr, /cannot write the output: ENOSPC.* \(OUTPUT_FAILED\)/);
  });

  it('loses no byte without a word when the limit of a file is in the middle of a write', async (t) => {
    const port = await listen(
      t,
      gatewayDouble((tunnel) => void tunnel.end(randomBytes(100_000))),
    );
    const path = join(temporaryDirectory(t), 'output');
    const flags = `--gateway http://127.0.0.1:${port}/ssh/ --via connect box`;
    // 64 blocks of 512 bytes: the write that passes the limit is a short one, and the next fails with EFBIG.
    const command = `ulimit -f 64; trap '' XFSZ; exec '${process.execPath}' '${main}' connect ${flags} >'${path}'`;
    const child = spawn('sh', ['-c', command], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { HOME: temporaryDirectory(t), POSTERN_TOKEN: 't0ken', PATH: process.env['PATH'] },
    });
    const [[code], stderr] = await Promise.all([once(child, 'exit'), readAll(child.stderr)]);
    assert.equal(code, 74);
    assert.match(stderr.toString(), /cannot write the output: EFBIG.* \(OUTPUT_FAILED\)/);
  });

  for (const [signal, expected] of [
    ['SIGHUP', 129],
    ['SIGTERM', 143],
  ] as const) {
    for (const via of entryNames) {
      it(`says goodbye to the gateway and leaves at ${signal}, by ${via}`, async (t) => {
        const goodbye = Promise.withResolvers<string>();
        const { child, ended } = await run(
          t,
          (tunnel) => {
            tunnel.write('ready');
            tunnel.resume().once('end', () => goodbye.resolve('end'));
            tunnel.once('error', () => goodbye.resolve('error'));
          },
          { via },
        );
        await once(child.stdout!, 'data');
        child.kill(signal);
        assert.equal((await ended).code, expected);
        assert.equal(await goodbye.promise, 'end');
      });
    }
  }
});

function stdio() {
  return { input: new PassThrough(), output: new PassThrough(), signals: new EventEmitter() };
}

describe('carry()', () => {
  it('leaves no listener for signals behind', async () => {
    const ends = stdio();
    const tunnel = new PassThrough();
    const carried = carry(tunnel, ends);
    ends.input.end('hello');
    assert.equal(await carried, 0);
    assert.deepEqual(ends.signals.eventNames(), []);
    assert.equal(String(ends.output.read()), 'hello');
  });

  it('does not wait for ever for a peer that does not take the goodbye', async () => {
    const ends = stdio();
    const tunnel = new PassThrough({ final: () => {} });
    const carried = carry(tunnel, ends);
    ends.signals.emit('SIGHUP');
    assert.equal(await carried, 129);
  });

  for (const signal of ['SIGHUP', 'SIGTERM']) {
    it(`waits at ${signal} for the far side to answer the goodbye, and no longer`, async () => {
      const ends = stdio();
      const tunnel = new PassThrough();
      const carried = carry(tunnel, ends);
      const started = performance.now();
      ends.signals.emit(signal);
      assert.ok((await carried) > 128);
      assert.ok(tunnel.readableEnded && performance.now() - started < 200);
    });
  }

  it('does not call a session lost that the far side has ended, when that side takes no more bytes', async () => {
    const ends = stdio();
    const tunnel = new Duplex({
      read: () => {},
      write: (_chunk, _encoding, callback) => setImmediate(callback, new Error('reset')),
    });
    const carried = carry(tunnel, ends);
    tunnel.push('bye');
    tunnel.push(null);
    tunnel.once('end', () => ends.input.write('too late'));
    assert.equal(await carried, 0);
    assert.equal(String(ends.output.read()), 'bye');
  });

  it('passes an input that cannot be read on as a failure, not as its end', async () => {
    const ends = stdio();
    const tunnel = new PassThrough();
    const carried = carry(tunnel, ends);
    ends.input.destroy(Object.assign(new Error('i/o error'), { code: 'EIO' }));
    await assert.rejects(carried, { code: 'TUNNEL_LOST' });
    assert.ok(tunnel.destroyed);
  });
});
