// SECURITY: programs of this machine that misuse `postern listen`. They are gone in time, cost little, and honest ones
// get in meanwhile.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startGateway } from '../e2e/support/gateway.ts';
import { startListener } from '../e2e/support/listener.ts';
import type { Listener } from '../e2e/support/listener.ts';
import { clientBundle, needs } from '../e2e/support/needs.ts';
import { eventually, run } from '../e2e/support/process.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { listen } from '../e2e/support/world.ts';
import { abort } from '../../stream/close.ts';
import { patient } from '../support/slowness.ts';

const scratch = openScratch();
const each = process.env.POSTERN_LONG ? 200 : 30;
/** `postern listen` waits 10 s for the request of a program. */
const patienceMs = 13_000;
const toEcho = 'CONNECT echo:22 HTTP/1.1\r\nHost: echo:22\r\n\r\n';

function drip(socket: Socket, first: string, next: string): void {
  socket.write(first);
  const timer = setInterval(() => socket.write(next), 300);
  socket.once('close', () => clearInterval(timer));
}

/** What they do; each gets a connection of its own. */
const misuses: Readonly<Record<string, (socket: Socket) => void>> = {
  'say nothing': () => {},
  'say one byte of SOCKS5': (socket) => void socket.write('\x05'),
  'greet in SOCKS5 and stay': (socket) => void socket.write('\x05\x01\x00'),
  'drip a user name of SOCKS4': (socket) => drip(socket, '\x04\x01\x00\x16\x00\x00\x00\x01', 'a'),
  'drip a header': (socket) => drip(socket, toEcho.slice(0, -2), 'X-a: b\r\n'),
  'send a head without an end': (socket) =>
    void socket.write(`${toEcho.slice(0, -2)}X: ${'a'.repeat(100_000)}`),
  'speak TLS': (socket) => void socket.write('\x16\x03\x01\x02\x00\x01'),
  'are refused and do not read it': (socket) => void socket.pause().write('CONNECT db:22 HTTP/1.1\r\n\r\n'),
};

async function open(port: number): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Whether the other side leaves the connection open for too long. */
async function outlasts(socket: Socket): Promise<boolean> {
  const closed = new Promise<boolean>((resolve) => {
    socket.once('close', () => resolve(false)).once('end', () => resolve(false));
  });
  socket.resume();
  const how = await Promise.race([closed, delay(patient(patienceMs), true, { ref: false })]);
  socket.destroy();
  return how;
}

async function honest(port: number): Promise<void> {
  const socket = await open(port);
  socket.write(`${toEcho}hello`);
  let got = '';
  while (!got.endsWith('hello')) got += String((await once(socket, 'data'))[0]);
  assert.match(got, /^HTTP\/1\.1 200 /);
  socket.destroy();
}

/** What a program of another user gets when it requests the echo. */
async function asNobody(port: number): Promise<string> {
  const child = spawn(
    'setpriv',
    ['--reuid=65534', '--regid=65534', '--clear-groups', 'nc', '-N', '127.0.0.1', String(port)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  child.stdin.on('error', () => {}).end(`${toEcho}hello`);
  let got = '';
  child.stdout.on('data', (chunk: Buffer) => (got += chunk.toString()));
  await once(child, 'close');
  return got;
}

describe('programs that misuse postern listen', needs(clientBundle), () => {
  let env: Record<string, string>;
  let listener: Listener;
  /** Sends without an end, and reads nothing. */
  let floodIsOpen = 0;

  before(async () => {
    const echo = await listen(scratch, (socket) => socket.pipe(socket));
    const flood = await listen(scratch, (socket) => {
      floodIsOpen++;
      socket.on('close', () => floodIsOpen--);
      const more = (): void => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536)));
      };
      socket.on('drain', more);
      more();
    });
    const gateway = await startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo}`, flood: `127.0.0.1:${flood}` },
      settings: { limits: { perSubject: 1000, perAddress: 1000 } },
    });
    env = {
      HOME: scratch.path('home'),
      POSTERN_GATEWAY: `http://127.0.0.1:${gateway.port}/ssh/`,
      POSTERN_TOKEN_FILE: gateway.tokenFile,
    };
    listener = await startListener(scratch, ['--listen', '0'], env);
  });

  const descriptors = (): number => readdirSync(`/proc/${listener.pid}/fd`).length;

  it('are all gone in time, and honest ones get in meanwhile', async () => {
    await honest(listener.port());
    const before = descriptors();
    const held: { readonly what: string; readonly lasted: Promise<boolean> }[] = [];
    for (const [what, act] of Object.entries(misuses)) {
      for (let at = 0; at < each; at++) {
        const socket = await open(listener.port());
        act(socket);
        held.push({ what, lasted: outlasts(socket) });
      }
      await honest(listener.port());
    }
    const left = await Promise.all(held.map(async ({ what, lasted }) => ((await lasted) ? what : undefined)));
    assert.deepEqual([...new Set(left.filter((what) => what !== undefined))], []);
    await honest(listener.port());
    await eventually(() => descriptors() <= before + 2, 'the end of their connections');
    // What happened hundreds of times is logged a few times.
    assert.ok(listener.said().split('\n').length < 60, listener.said());
  });

  it('do not make it keep what they do not read, or a target does not', async () => {
    const sockets: Socket[] = [];
    for (let at = 0; at < 20; at++) {
      const unread = await open(listener.port());
      unread.pause().write('CONNECT flood:22 HTTP/1.1\r\n\r\n');
      // The target of this one reads nothing.
      const unwanted = await open(listener.port());
      unwanted.write('CONNECT flood:22 HTTP/1.1\r\n\r\n');
      unwanted.write(Buffer.alloc(8 * 1024 * 1024));
      sockets.push(unread, unwanted);
    }
    await eventually(() => floodIsOpen === 40, '40 tunnels');
    const kib = async (): Promise<number> =>
      Number((await run(['ps', '-o', 'rss=', '-p', String(listener.pid)])).stdout);
    let [before, now] = [0, await kib()];
    await eventually(
      async () => {
        await delay(500);
        [before, now] = [now, await kib()];
        return now - before < 1024;
      },
      'an end of its growth',
      30_000,
    );
    assert.ok(now < 400 * 1024, `${now} KiB`);
    await honest(listener.port());
    for (const socket of sockets) abort(socket);
    await eventually(() => floodIsOpen === 0, 'the end of the tunnels of programs that have gone');
  });

  it('leave nothing behind when they reset whatever they had begun', async () => {
    await honest(listener.port());
    const before = descriptors();
    const beginnings = ['', '\x05', '\x05\x01\x00', toEcho.slice(0, 20), toEcho, `${toEcho}hello`];
    await Promise.all(
      Array.from({ length: 10 * each }, async (_, at) => {
        const socket = await open(listener.port());
        socket.write(beginnings[at % beginnings.length]!);
        await delay(at % 50);
        abort(socket);
      }),
    );
    await honest(listener.port());
    await eventually(() => descriptors() <= before + 2, 'the end of their connections');
  });

  it('cannot be more than --most-connections, and later ones are accepted again', async () => {
    const small = await startListener(scratch, ['--listen', '0', '--most-connections', '2'], env);
    const two = [await open(small.port()), await open(small.port())];
    for (const socket of two) {
      socket.write(toEcho);
      await once(socket, 'data');
    }
    const codes = await small.failures(async () => {
      // It is reset, perhaps before this process has seen that it was accepted.
      const third = connect({ port: small.port(), host: '127.0.0.1' }).on('error', () => {});
      await new Promise((resolve) => third.resume().once('close', resolve));
    });
    assert.deepEqual(codes, ['LISTENER_FULL']);
    for (const socket of two) socket.destroy();
    await eventually(() =>
      honest(small.port()).then(
        () => true,
        () => false,
      ),
    );
  });

  it('cannot be of another user, unless an option allows it', async (t) => {
    if (process.getuid?.() !== 0) return t.skip('only root can run programs as another user');
    const codes = await listener.failures(async () => assert.equal(await asNobody(listener.port()), ''));
    assert.deepEqual(codes, ['LISTENER_DENIED']);
    const forAll = await startListener(scratch, ['--listen', '0', '--any-user'], env);
    assert.match(forAll.said(), /^postern: warning: /);
    assert.match(await asNobody(forAll.port()), /^HTTP\/1\.1 200 [^]*hello$/);
  });
});
