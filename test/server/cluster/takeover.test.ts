import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { relay } from '../../../client/entry/resumable.ts';
import { Secret } from '../../../protocol/secret.ts';
import { makeCertificates } from '../../e2e/support/certificates.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { audited, auditOf, logs, startNext } from '../../e2e/support/generations.ts';
import { findProgram, needs } from '../../e2e/support/needs.ts';
import { eventually, freePort, own, run } from '../../e2e/support/process.ts';
import { startFront } from '../../e2e/support/proxies.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { clientCommand, prepareSsh } from '../../e2e/support/ssh.ts';
import type { Ssh } from '../../e2e/support/ssh.ts';
import { startSshd } from '../../e2e/support/sshd.ts';
import type { Sshd } from '../../e2e/support/sshd.ts';
import { startEcho } from '../support/gateway-parts.ts';

const isLong = process.env['POSTERN_LONG'] === '1';
const sessionCount = isLong ? 500 : 60;
/** What is copied after the takeover, in pieces of 256 KiB. */
const lastPieces = isLong ? 800 : 80;

const scratch = openScratch();

/** A tunnel to the echo whose every byte is checked. */
class Conversation {
  static readonly #all = new Set<Conversation>();
  readonly #tunnel: Duplex;
  readonly #sent = createHash('sha256');
  readonly #received = createHash('sha256');

  constructor(tunnel: Duplex) {
    this.#tunnel = tunnel;
    Conversation.#all.add(this);
    tunnel.on('data', (chunk: Buffer) => this.#received.update(chunk));
    tunnel.on('error', () => {});
  }

  static async open(gateway: Gateway): Promise<Conversation> {
    const request = {
      gateway: new URL(`http://127.0.0.1:${gateway.port}/ssh/`),
      target: { host: 'echo', port: 22 },
      token: new Secret(readFileSync(gateway.tokenFile, 'utf8').trim()),
    };
    return new Conversation(await relay.open(request, direct, AbortSignal.timeout(60_000)));
  }

  /** The error that it ends with. To be read before it ends. */
  get ended(): Promise<unknown> {
    return new Promise((resolve) => this.#tunnel.once('close', () => resolve(this.#tunnel.errored)));
  }

  send(bytes = randomBytes(16 * 1024)): void {
    this.#sent.update(bytes);
    this.#tunnel.write(bytes);
  }

  async finish(): Promise<void> {
    this.#tunnel.end();
    // Rejects at once for one that was lost long ago.
    await finished(this.#tunnel, { writable: false });
    assert.equal(this.#received.digest('hex'), this.#sent.digest('hex'));
  }

  destroy(): void {
    this.#tunnel.destroy();
  }

  /** Those of a test that has failed would come back for ever. */
  static destroyAll(): void {
    for (const each of Conversation.#all) each.destroy();
  }
}

async function open(gateway: Gateway, count: number): Promise<Conversation[]> {
  const all: Conversation[] = [];
  // Not more at once than a busy machine can sign in.
  for (let at = 0; at < count; at += 20)
    all.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(20, count - at) }, () => Conversation.open(gateway)),
      )),
    );
  return all;
}

/** The command that asks the running gateway. */
async function command(gateway: Gateway, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run([...gatewayCommand, ...args, '--config', gateway.configFile]);
  assert.equal(code, 0, stderr.toString());
  return stdout.toString();
}

async function sessionsOf(gateway: Gateway): Promise<{ id: string; subject: string }[]> {
  return JSON.parse(await command(gateway, 'sessions', '--json')) as { id: string; subject: string }[];
}

async function assertWholeAudit({ auditFile }: Gateway): Promise<void> {
  const { code, stdout } = await run([...gatewayCommand, 'verify-audit', auditFile]);
  assert.equal(code, 0, stdout.toString());
}

async function readiness({ adminPort }: Gateway): Promise<number> {
  return fetch(`http://127.0.0.1:${adminPort}/readyz`, { headers: { connection: 'close' } }).then(
    ({ status }) => status,
    () => 0,
  );
}

/** A socket that receives what systemd would; undefined where systemd's program for it is not there. */
async function startNotifySocket(): Promise<{ path: string; mainPids(): string[] } | undefined> {
  if (!findProgram('systemd-notify') || !findProgram('socat')) return undefined;
  const [path, file] = [scratch.path('notify.sock'), scratch.path('notify.log')];
  const socat = own(spawn('socat', ['-u', `UNIX-RECV:${path}`, `OPEN:${file},creat,append`]));
  scratch.onEnd(() => void socat.kill());
  await eventually(() => existsSync(path), 'the socket');
  return {
    path,
    mainPids: () => [
      ...new Set([...readFileSync(file, 'utf8').matchAll(/MAINPID=(\d+)/g)].map(([, pid]) => pid!)),
    ],
  };
}

/** Has the newest process, which is the one with this number, start the next. Gives that one's process id. */
async function upgrade(gateway: Gateway, number: number): Promise<number> {
  process.kill(listeningPids(gateway)[number - 1]!, 'SIGUSR2');
  await eventually(
    () => {
      if (!isThere(gateway.running.pid) && number === 1) throw new Error(gateway.running.log());
      return listeningPids(gateway).length > number;
    },
    'the next process',
    60_000,
  );
  const pid = listeningPids(gateway)[number]!;
  scratch.onEnd(() => {
    if (isThere(pid)) process.kill(pid, 'SIGKILL');
  });
  return pid;
}

function listeningPids({ running }: Gateway): number[] {
  const lines = running
    .log()
    .split('\n')
    .filter((line) => line.includes('"msg":"listening"'));
  return lines.map((line) => (JSON.parse(line) as { pid: number }).pid);
}

function isThere(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

function processEnd(pid: number): Promise<void> {
  return eventually(() => !isThere(pid), `the end of ${pid}`, 120_000);
}

function startCat({ configFile, env }: Ssh): ChildProcessWithoutNullStreams {
  return own(
    spawn('ssh', ['-F', configFile, 'box', 'cat'], { env: { ...process.env, ...env }, detached: true }),
  );
}

async function answers(cat: ChildProcessWithoutNullStreams, text: string): Promise<void> {
  cat.stdin.write(`${text}\n`);
  const ended = once(cat, 'exit').then(([code]) => assert.fail(`ssh has ended with ${code}`));
  const [echoed] = (await Promise.race([once(cat.stdout, 'data'), ended])) as [Buffer];
  ended.catch(() => {});
  assert.equal(String(echoed), `${text}\n`);
}

/** A copy through ssh that lasts until it is told to end, whatever time the machine needs for what happens meanwhile. */
interface Copy {
  /** Sends the last part and the end. Resolves when every byte has arrived. */
  finish(): Promise<void>;
}

/** Starts a copy of a standard input, and waits until it is in the middle. */
async function startCopy({ configFile, env }: Ssh, to: string): Promise<Copy> {
  const ssh = own(
    spawn('ssh', ['-F', configFile, 'box', `cat >'${to}'`], {
      env: { ...process.env, ...env },
      detached: true,
    }),
  );
  const sent = createHash('sha256');
  const piece = randomBytes(256 * 1024 + 7);
  let isOver = false;
  ssh.once('exit', () => (isOver = true));
  const copying = (async () => {
    for (let left = lastPieces; left > 0 && ssh.exitCode === null; left -= Number(isOver)) {
      piece.writeUInt32LE(Math.floor(Math.random() * 2 ** 32));
      sent.update(piece);
      // Its bytes stay as they are until they are taken.
      await new Promise((resolve) => ssh.stdin.write(piece, resolve));
      // About 10 MB/s, and no more than the disk has to keep.
      if (!isOver) await delay(25);
    }
    ssh.stdin.end();
  })();
  ssh.stdin.on('error', () => {});
  await eventually(
    () => existsSync(to) && statSync(to).size > 1024 * 1024,
    'the beginning of the copy',
    60_000,
  );
  return {
    async finish() {
      assert.equal(isOver, false, 'the copy has ended by itself');
      isOver = true;
      const exited = once(ssh, 'exit');
      await copying;
      assert.equal((await exited)[0], 0);
      const received = createHash('sha256');
      await pipeline(createReadStream(to), received);
      assert.equal(received.digest('hex'), sent.digest('hex'));
    },
  };
}

const moved = ({ event, cause }: { readonly [field: string]: unknown }): boolean =>
  event === 'resume' && cause === 'move';

describe('a process that takes over', needs('ssh', 'sshd', 'nginx', 'dist/postern.cjs'), () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let sshd: Sshd;
  before(async () => {
    [echo, sshd] = await Promise.all([startEcho(), startSshd(scratch)]);
  });
  after(() => {
    Conversation.destroyAll();
    echo.close();
  });

  const targets = (): Record<string, string> => ({
    echo: `127.0.0.1:${echo.port}`,
    box: `127.0.0.1:${sshd.port}`,
  });

  function newGateway(settings: object = {}, env: Record<string, string> = {}): Promise<Gateway> {
    const limits = { perSubject: 2000, perAddress: 2000, graceSeconds: 60 };
    return startGateway(scratch, { targets: targets(), settings: { limits, ...settings }, env });
  }

  function sshThrough(gateway: Gateway, env: Record<string, string> = {}): Ssh {
    return prepareSsh(scratch, {
      sshd,
      name: `through-${gateway.port}`,
      proxyCommand: clientCommand('connect', '%h', '%p').join(' '),
      env: {
        POSTERN_GATEWAY: `http://127.0.0.1:${gateway.port}/ssh/`,
        POSTERN_TOKEN_FILE: gateway.tokenFile,
        ...env,
      },
    });
  }

  it(`loses none of ${sessionCount} sessions and no byte of a copy, and the old one ends when they have`, async () => {
    const gateway = await newGateway();
    const ssh = sshThrough(gateway);
    const conversations = await open(gateway, sessionCount);
    const cats = Array.from({ length: 3 }, () => startCat(ssh));
    await Promise.all(cats.map((cat) => answers(cat, 'before')));
    for (const each of conversations) each.send();
    const copy = await startCopy(ssh, scratch.path('copy'));
    const next = await startNext(scratch, gateway);
    for (const each of conversations) each.send();
    const all = sessionCount + cats.length + 1;
    await audited(gateway, all, moved);
    for (const each of conversations) each.send();
    await Promise.all(cats.map((cat) => answers(cat, 'after')));
    assert.equal(await readiness(gateway), 200);

    const newcomer = await Conversation.open(gateway);
    newcomer.send();
    await logs(next, 'tunnel opened');
    const listed = await sessionsOf(gateway);
    assert.equal(new Set(listed.map(({ id }) => id)).size, all + 1);

    await Promise.all([copy.finish(), newcomer.finish(), ...conversations.map((each) => each.finish())]);
    for (const cat of cats) cat.stdin.end();
    assert.deepEqual(await Promise.all(cats.map(async (cat) => (await once(cat, 'exit'))[0])), [0, 0, 0]);
    assert.equal(await gateway.running.ended, 0);
    await next.stop();
    await assertWholeAudit(gateway);
    const causes = auditOf(gateway).filter(({ event }) => event === 'end');
    assert.equal(causes.length, all + 1);
    assert.deepEqual([...new Set(causes.map(({ cause }) => cause))], ['CLOSED']);
    assert.deepEqual(
      readdirSync(JSON.parse(readFileSync(gateway.configFile, 'utf8')).control.slice(5) + '.d').filter(
        (name) => name.endsWith('.sock'),
      ),
      [],
    );
  });

  it('comes after a SIGTERM too, in the time that the old one waits', async () => {
    const gateway = await newGateway();
    const conversation = await Conversation.open(gateway);
    conversation.send();
    gateway.running.signal('SIGTERM');
    await logs(gateway.running, 'stopping');
    assert.equal(await readiness(gateway), 503);
    const next = await startNext(scratch, gateway);
    assert.equal(await readiness(gateway), 200);
    await audited(gateway, 1, moved);
    conversation.send();
    await conversation.finish();
    assert.equal(await gateway.running.ended, 0);
    await next.stop();
    await assertWholeAudit(gateway);
  });

  it('goes on over three generations, and the operator reaches all of them', async () => {
    const gateway = await newGateway();
    const [first] = await open(gateway, 1);
    const second = await startNext(scratch, gateway);
    const [inSecond] = await open(gateway, 1);
    const third = await startNext(scratch, gateway);
    const [inThird] = await open(gateway, 1);
    // The first one's client has moved twice.
    await audited(gateway, 3, moved);
    for (const each of [first!, inSecond!, inThird!]) each.send();
    assert.equal((await sessionsOf(gateway)).length, 3);

    const oldest = auditOf(gateway).find(({ event }) => event === 'open')!.session as string;
    const killed = first!.ended;
    assert.match(await command(gateway, 'kill', oldest), /^1 session ended/);
    assert.equal(((await killed) as { code?: string }).code, 'TUNNEL_KILLED');
    assert.equal(await gateway.running.ended, 0);
    assert.equal((await sessionsOf(gateway)).length, 2);

    await inSecond!.finish();
    assert.equal(await second.ended, 0);
    const revoked = inThird!.ended;
    await command(gateway, 'kill', '--subject', 'tester', '--revoke');
    assert.equal(((await revoked) as { code?: string }).code, 'TUNNEL_KILLED');
    await third.stop();
    await assertWholeAudit(gateway);
    assert.equal(auditOf(gateway).filter(({ event }) => event === 'revoke').length, 1);
  });

  it('ends what older ones hold, when it is stopped itself and nobody comes after it', async () => {
    const gateway = await newGateway({ limits: { graceSeconds: 1 } });
    const conversation = await Conversation.open(gateway);
    const next = await startNext(scratch, gateway);
    await audited(gateway, 1, moved);
    const ended = conversation.ended;
    next.signal('SIGTERM');
    assert.equal(((await ended) as { code?: string }).code, 'TUNNEL_STOPPED');
    assert.deepEqual(await Promise.all([gateway.running.ended, next.ended]), [0, 0]);
    assert.equal(auditOf(gateway).at(-1)?.cause, 'GATEWAY_STOPPED');
  });

  it('finds what older ones hold, when the one between them was killed', async () => {
    const gateway = await newGateway();
    const conversation = await Conversation.open(gateway);
    const between = await startNext(scratch, gateway);
    await audited(gateway, 1, moved);
    const lost = await Conversation.open(gateway);
    const lostEnd = lost.ended;
    between.signal('SIGKILL');
    await between.ended;
    const next = await startNext(scratch, gateway);
    // The tunnels of the process that was killed are lost, and their clients are told so.
    assert.equal(((await lostEnd) as { code?: string }).code, 'TUNNEL_GONE');
    await audited(gateway, 2, ({ event }) => event === 'resume');
    conversation.send();
    assert.equal((await sessionsOf(gateway)).length, 1);
    await conversation.finish();
    assert.equal(await gateway.running.ended, 0);
    await next.stop();
    await assertWholeAudit(gateway);
  });

  it('does not disturb the one that runs when it cannot serve', async () => {
    const gateway = await newGateway();
    const conversation = await Conversation.open(gateway);
    const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as object;
    const file = scratch.path('cannot.yaml');
    // It cannot listen on the last of its addresses.
    writeFileSync(file, JSON.stringify({ ...settings, listen: `127.0.0.1:${sshd.port}` }));
    const { code } = await run([...gatewayCommand, 'serve', '--config', file]);
    assert.equal(code, 1);
    assert.equal(await readiness(gateway), 200);
    conversation.send();
    (await Conversation.open(gateway)).destroy();
    await conversation.finish();
    assert.equal(auditOf(gateway).some(moved), false);
  });

  it('is started by SIGUSR2 with the listening socket, notifies systemd, and no connection is refused', async () => {
    const states = await startNotifySocket();
    const gateway = await newGateway({}, states && { NOTIFY_SOCKET: states.path });
    const [conversation] = await open(gateway, 1);
    const over = new AbortController();
    const opening = (async () => {
      let opened = 0;
      while (!over.signal.aborted) {
        const newcomer = await Conversation.open(gateway);
        newcomer.send();
        await newcomer.finish();
        opened++;
      }
      return opened;
    })();
    const pids = [await upgrade(gateway, 1), await upgrade(gateway, 2)];
    await audited(gateway, 2, moved);
    over.abort();
    assert.ok((await opening) > 0);
    conversation!.send();
    await conversation!.finish();
    await processEnd(gateway.running.pid);
    await processEnd(pids[0]!);
    assert.equal(await readiness(gateway), 200);
    process.kill(pids[1]!, 'SIGTERM');
    await processEnd(pids[1]!);
    await assertWholeAudit(gateway);
    if (states) assert.deepEqual(states.mainPids(), [gateway.running.pid, ...pids].map(String));
  });

  it('leaves connections through nginx alone', async () => {
    const publicPort = await freePort();
    const certificates = await makeCertificates(scratch);
    const limits = { perSubject: 2000, perAddress: 2000 };
    const gateway = await startGateway(scratch, {
      targets: targets(),
      publicPort,
      settings: { limits },
    });
    await startFront(scratch, 'nginx', { certificates, port: publicPort, upstreamPort: gateway.port });
    const ssh = sshThrough(gateway, {
      POSTERN_GATEWAY: `https://localhost:${publicPort}/ssh/`,
      POSTERN_CA_FILE: certificates.authorityFile,
    });
    const cat = startCat(ssh);
    await answers(cat, 'before');
    const copy = await startCopy(ssh, scratch.path('copy-nginx'));
    const next = await startNext(scratch, gateway);
    await audited(gateway, 2, moved);
    await answers(cat, 'after');
    await copy.finish();
    cat.stdin.end();
    assert.equal((await once(cat, 'exit'))[0], 0);
    assert.equal(await gateway.running.ended, 0);
    await next.stop();
    await assertWholeAudit(gateway);
  });
});
