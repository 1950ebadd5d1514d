import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { before, describe, it } from 'node:test';
import { inspectingSquid } from './inspecting-squid.ts';
import { clientBundle, needs } from './needs.ts';
import { answers, freePort, run, start, type Outcome } from './process.ts';
import { openScratch } from './scratch.ts';
import { box, clientCommand, type Ssh } from './ssh.ts';
import {
  listen,
  openWorld,
  signInSeconds,
  talkBytes,
  type Path,
  type Via,
  type World,
  type WorldOptions,
} from './world.ts';

const mebibyte = 1024 * 1024;

/** What every path to the gateway needs of the machine. */
const programs = [
  'ssh',
  'sshd',
  'ssh-keygen',
  'openssl',
  'script',
  'scp',
  'sftp',
  'rsync',
  'git',
  'hg',
  'curl',
];

/** What is not as usual on a path. */
export interface PathOptions extends WorldOptions {
  /** Follows the name of the path in the title. */
  readonly how?: string;
}

/** Tests what people do with ssh, with the real programs, on one path to the gateway and through each entry. */
export function testPath(
  path: Path,
  entries: readonly Via[],
  more?: (world: () => World) => void,
  { how = '', ...options }: PathOptions = {},
): void {
  const scratch = openScratch();
  const front = {
    direct: [],
    nginx: ['nginx'],
    haproxy: ['haproxy'],
    apache: ['apache2'],
    caddy: ['caddy'],
    squid: ['squid', 'nginx'],
    'inspecting squid': [inspectingSquid],
  };
  const lacking = needs(clientBundle, ...programs, ...front[path]);
  describe(`ssh, ${path === 'direct' ? 'direct' : `through ${path}`}${how}`, lacking, () => {
    let world: World;
    before(async () => {
      world = await openWorld(scratch, path, options);
    });

    it('the client finds an entry that works by itself', async () => {
      const { code, stdout } = await ok(world.ssh().run([box, 'echo by itself']));
      assert.equal(code, 0);
      assert.equal(stdout.toString(), 'by itself\n');
    });

    for (const via of entries) {
      // Most of the time of a test is spent waiting for one of many processes.
      describe(`via ${via}`, { concurrency: 3 }, () => battery(() => world, via));
    }
    more?.(() => world);

    it('the gateway has nothing to complain about', () => {
      const lines = world.gateway.running.log().trim().split('\n');
      const complaints = lines.filter((line) => !/^\{"level":[1-3]0,/.test(line));
      assert.deepEqual(complaints, []);
    });
  });
}

function battery(world: () => World, via: Via): void {
  let ssh: Ssh;
  let here: (name: string) => string;
  const git = (...args: string[]): Promise<Outcome> =>
    ok(ssh.command(['git', ...args], { env: { GIT_SSH_COMMAND: `ssh -F ${ssh.configFile}` } }));
  before(() => {
    ssh = world().ssh(via);
    here = (name) => world().scratch.path(`${via}-${name}`);
  });

  it('the exit status of the command is the exit status of ssh', async () => {
    assert.equal((await ssh.run([box, 'exit 42'])).code, 42);
  });

  it('stdout and stderr stay apart', async () => {
    const { stdout, stderr } = await ok(ssh.run([box, 'echo out; echo err >&2']));
    assert.deepEqual([stdout.toString(), stderr.toString()], ['out\n', 'err\n']);
  });

  it('an interactive session has a terminal', async () => {
    const shell = "HISTFILE= bash --noprofile --norc -i -c 'tty; read line; echo got $line; exit 5'";
    const { code, stdout } = await ssh.command(
      [
        'script',
        '-qefc',
        `ssh -F ${ssh.configFile} -tt ${box} "${shell.replaceAll('$', String.raw`\$`)}"`,
        '/dev/null',
      ],
      { input: 'typed\n' },
    );
    assert.match(stdout.toString(), /\/dev\/pts\/\d+\r?\n[^]*got typed/);
    assert.equal(code, 5);
  });

  it('ssh -tt without a terminal here has one there', async () => {
    const { stdout } = await ok(ssh.run(['-tt', box, 'tty'], { input: '' }));
    assert.match(stdout.toString(), /\/dev\/pts\/\d+/);
  });

  it('the end of input reaches the command: sort < file', async () => {
    const { stdout } = await ok(ssh.run([box, 'sort'], { input: 'c\na\nb\n' }));
    assert.equal(stdout.toString(), 'a\nb\nc\n');
  });

  it('late output arrives although the input ended at once', async () => {
    const { stdout } = await ok(ssh.run([box, 'sleep 1; echo late']));
    assert.equal(stdout.toString(), 'late\n');
  });

  it('a session can be silent for longer than the time allowed for a sign-in', async () => {
    const { stdout } = await ok(ssh.run([box, `sleep ${signInSeconds + 1}; echo still here`]));
    assert.equal(stdout.toString(), 'still here\n');
  });

  it('a binary stream of 100 MiB arrives unchanged each way', async () => {
    const bytes = randomBytes(mebibyte);
    const [file, count] = [here('100MiB'), 100];
    const whole = Buffer.concat(Array.from({ length: count }, () => bytes));
    const [up] = (await ok(ssh.run([box, 'sha256sum'], { input: whole, timeoutMs: 60_000 }))).stdout
      .toString()
      .split(' ');
    assert.equal(up, sha256(whole));
    writeFileSync(file, whole);
    const down = (await ok(ssh.run([box, `cat ${file}`], { timeoutMs: 60_000 }))).stdout;
    assert.equal(down.length, whole.length);
    assert.equal(sha256(down), sha256(whole));
    rmSync(file);
  });

  // Its old protocol is `-O`.
  for (const [name, flags] of [
    ['scp', []],
    ['scp-O', ['-O']],
  ] as const) {
    it(`${name} copies there and back`, async () => {
      const [file, there, back] = [here(name), here(`${name}-there`), here(`${name}-back`)];
      writeFileSync(file, randomBytes(mebibyte));
      await ok(ssh.command(['scp', '-q', ...flags, '-F', ssh.configFile, file, `${box}:${there}`]));
      await ok(ssh.command(['scp', '-q', ...flags, '-F', ssh.configFile, `${box}:${there}`, back]));
      assert.deepEqual(readFileSync(back), readFileSync(file));
    });
  }

  it('sftp puts and gets', async () => {
    const [file, there, back] = [here('sftp'), here('sftp-there'), here('sftp-back')];
    writeFileSync(file, randomBytes(mebibyte));
    const input = `put ${file} ${there}\nget ${there} ${back}\n`;
    await ok(ssh.command(['sftp', '-q', '-b', '-', '-F', ssh.configFile, box], { input }));
    assert.deepEqual(readFileSync(back), readFileSync(file));
  });

  it('rsync copies there and back', async () => {
    const [tree, there, back] = [here('rsync'), here('rsync-there'), here('rsync-back')];
    mkdirSync(`${tree}/deep/er`, { recursive: true });
    for (const name of ['one', 'deep/two', 'deep/er/three'])
      writeFileSync(`${tree}/${name}`, randomBytes(100_000));
    const rsync = ['rsync', '-a', '-e', `ssh -F ${ssh.configFile}`];
    await ok(ssh.command([...rsync, `${tree}/`, `${box}:${there}/`]));
    await ok(ssh.command([...rsync, `${box}:${there}/`, `${back}/`]));
    const difference = await ok(run(['diff', '-r', tree, back]));
    assert.equal(difference.stdout.toString(), '');
  });

  it('git clones and pushes', async () => {
    const [bare, work] = [here('git-bare'), here('git-work')];
    const author = ['-c', 'user.name=tester', '-c', 'user.email=tester@gw.example'];
    await git('init', '-q', '--bare', bare);
    await git('clone', '-q', `${box}:${bare}`, work);
    writeFileSync(`${work}/file`, randomBytes(mebibyte));
    await git('-C', work, 'add', '.');
    await git('-C', work, ...author, 'commit', '-q', '-m', 'one');
    await git('-C', work, 'push', '-q', 'origin', 'HEAD');
    const { stdout } = await git('-C', bare, 'cat-file', 'blob', 'HEAD:file');
    assert.deepEqual(stdout, readFileSync(`${work}/file`));
  });

  it('hg clones and pushes', async () => {
    const [central, work] = [here('hg-central'), here('hg-work')];
    const config = ['--config', `ui.ssh=ssh -F ${ssh.configFile}`, '--config', 'ui.username=tester'];
    const hg = (...args: string[]): Promise<Outcome> => ok(ssh.command(['hg', ...config, ...args]));
    await hg('init', central);
    await hg('clone', '-q', `ssh://${box}/${central}`, work);
    writeFileSync(`${work}/file`, randomBytes(mebibyte));
    await hg('--cwd', work, 'commit', '-q', '-A', '-m', 'one');
    await hg('--cwd', work, 'push', '-q');
    const { stdout } = await hg('--cwd', central, 'cat', '-r', 'tip', 'file');
    assert.deepEqual(stdout, readFileSync(`${work}/file`));
  });

  it('sessions share one tunnel with ControlMaster and ControlPersist', async () => {
    const control = ['-o', `ControlPath=${here('cm')}`];
    const shared = [...control, '-o', 'ControlMaster=auto', '-o', 'ControlPersist=60'];
    const noGateway = { POSTERN_GATEWAY: 'https://127.0.0.1:1/' };
    const one = await ok(ssh.run([...shared, box, 'echo one']));
    assert.equal(one.stdout.toString(), 'one\n');
    await ok(ssh.run([...control, '-O', 'check', box]));
    const two = await ok(ssh.run([...shared, box, 'echo two'], { env: noGateway }));
    assert.equal(two.stdout.toString(), 'two\n');
    await ok(ssh.run([...control, '-O', 'exit', box]));
  });

  it('ports are forwarded with -L, -R and -D', async () => {
    const echo = await listen(world().scratch, (socket) => socket.pipe(socket));
    const web = await listen(world().scratch, (socket) => {
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nthrough SOCKS'));
    });
    const [local, remote, socks] = [await freePort(), await freePort(), await freePort()];
    const forwards = `-L 127.0.0.1:${local}:127.0.0.1:${echo} -R 127.0.0.1:${remote}:127.0.0.1:${echo} -D 127.0.0.1:${socks}`;
    const strict = ['-N', '-o', 'ExitOnForwardFailure=yes'];
    const forwarder = await start(
      world().scratch,
      ['ssh', '-F', ssh.configFile, ...strict, ...forwards.split(' '), box],
      {
        port: local,
        env: ssh.env,
      },
    );
    await answers(remote, forwarder.ended);
    const bytes = randomBytes(mebibyte);
    assert.deepEqual(await echoed(local, bytes), bytes);
    assert.deepEqual(await echoed(remote, bytes), bytes);
    const curl = `curl -sS --socks5-hostname 127.0.0.1:${socks} http://127.0.0.1:${web}/`;
    assert.equal((await ok(run(curl.split(' ')))).stdout.toString(), 'through SOCKS');
    await forwarder.stop();
  });

  it('a session goes on while it changes its keys (RekeyLimit 1M)', async () => {
    const bytes = randomBytes(4 * mebibyte);
    const rekey = ['-o', 'RekeyLimit=1M', '-o', 'LogLevel=DEBUG1'];
    const { stdout, stderr } = await ok(ssh.run([...rekey, box, 'cat'], { input: bytes }));
    assert.equal(sha256(stdout), sha256(bytes));
    const changes = stderr.toString().match(/SSH2_MSG_NEWKEYS sent/g)?.length ?? 0;
    assert.ok(changes > 3, `the keys changed ${changes} times`);
  });

  it('20 sessions work at once', async () => {
    const numbers = Array.from({ length: 20 }, (_, index) => index + 1);
    const outcomes = await Promise.all(
      numbers.map((number) => ssh.run([box, `echo ${number}; exit ${number}`])),
    );
    assert.deepEqual(
      outcomes.map(({ code, stdout }) => [code, stdout.toString()]),
      numbers.map((number) => [number, `${number}\n`]),
      outcomes.map(({ stderr }) => stderr.toString()).join(''),
    );
  });

  it('everything that a target sends before it ends arrives, and the client ends with it', async () => {
    const { code, stdout } = await ok(throughClient(world(), via, 'first'));
    assert.equal(stdout.length, talkBytes);
    assert.equal(code, 0);
  });

  it('everything that a target sends after the end of our input arrives', async () => {
    const { stdout } = await ok(throughClient(world(), via, 'last', randomBytes(mebibyte)));
    assert.equal(stdout.length, talkBytes);
  });
}

/** The client without ssh, talking to a target that speaks no SSH. */
function throughClient(world: World, via: Via, target: string, input?: Buffer): Promise<Outcome> {
  const { env } = world.ssh(via);
  return run(clientCommand('connect', '--via', via, target, '22'), {
    env,
    ...(input ? { input } : { openInput: true }),
  });
}

/** What comes back from an echo on a loopback port. */
async function echoed(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = connect({ port, host: '127.0.0.1' });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.end(bytes);
  await once(socket, 'close');
  return Buffer.concat(chunks);
}

/** The outcome of a command that must end with 0; else an error with its stderr. */
async function ok(outcome: Promise<Outcome>): Promise<Outcome> {
  const { code, stdout, stderr } = await outcome;
  assert.equal(code, 0, stderr.toString().slice(-2000));
  return { code, stdout, stderr };
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
