import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { startListener } from '../support/listener.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { freePort, output, own, run, type Environment } from '../support/process.ts';
import { mebibyte, succeeded } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { box, clientCommand, prepareSsh, type Ssh } from '../support/ssh.ts';
import { listen, openWorld, type World } from '../support/world.ts';

// The commands are those of docs/recipes.md.

const scratch = openScratch();
const programs = ['ssh', 'sshd', 'ssh-keygen', 'openssl', 'nginx', 'nc', 'git', 'hg', 'rsync', 'curl'];
const others = ['ansible', 'plink', 'psftp', 'puttygen', 'python3'];

/** One way to the gateway for programs that others have written. */
interface Way {
  readonly ssh: Ssh;
  /** The command that brings PuTTY's programs there. */
  readonly proxyCommand: string;
  /** ssh, where a program takes a command line. */
  readonly sshCommand: string;
  /** What stands in Ansible's inventory. */
  readonly ansibleArguments: string;
  /** A file for parsers of ssh_config. */
  readonly configFile: string;
}

let world: World;
let env: Environment;
let port: number;
let ways: { readonly connect: Way; readonly listen: Way };
let puttyKey: string;
let fingerprint: string;

async function prepare(): Promise<void> {
  world = await openWorld(scratch, 'nginx');
  const home = scratch.path('person');
  mkdirSync(home);
  env = {
    ...world.ssh().env,
    HOME: home,
    XDG_CONFIG_HOME: undefined,
    XDG_STATE_HOME: undefined,
    XDG_CACHE_HOME: undefined,
    // What setup writes has to do.
    POSTERN_GATEWAY: undefined,
    POSTERN_CA_FILE: undefined,
  };
  const setup = [
    'setup',
    '--gateway',
    world.url,
    '--ca-file',
    world.certificates.authorityFile,
    '--host',
    box,
  ];
  await output(clientCommand(...setup), { env });
  port = (await startListener(scratch, ['--listen', '0'], env)).port();
  const listenCommand = `nc -X connect -x 127.0.0.1:${port} %h %p`;
  const generated = join(home, '.config/postern/ssh_config');
  const [, connectCommand] = /ProxyCommand (.*)/.exec(readFileSync(generated, 'utf8'))!;
  const throughListen = scratch.path('listen.ssh_config');
  writeFileSync(throughListen, `Host ${box}\n  ProxyCommand ${listenCommand}\n`);
  const plan = { sshd: world.sshd, env };
  const connectSsh = prepareSsh(scratch, { ...plan, name: 'recipe-connect', proxyCommand: connectCommand! });
  ways = {
    connect: {
      ssh: connectSsh,
      sshCommand: `ssh -F ${connectSsh.configFile}`,
      ansibleArguments: `-F ${connectSsh.configFile}`,
      proxyCommand: clientCommand('connect', '%host', '%port').join(' '),
      configFile: generated,
    },
    listen: {
      ssh: prepareSsh(scratch, { ...plan, name: 'recipe-listen', proxyCommand: listenCommand }),
      sshCommand: `ssh -F ${connectSsh.configFile} -o ProxyCommand="${listenCommand}"`,
      ansibleArguments: `'-F ${connectSsh.configFile} -o ProxyCommand="${listenCommand}"'`,
      proxyCommand: `nc -X connect -x 127.0.0.1:${port} %host %port`,
      configFile: throughListen,
    },
  };
  puttyKey = scratch.path('id.ppk');
  await output(['puttygen', world.sshd.identityFile, '-O', 'private', '-o', puttyKey]);
  const shown = (await output(['ssh-keygen', '-lf', scratch.path('host-key.pub')])).toString();
  fingerprint = /SHA256:\S+/.exec(shown)![0];
}

describe(
  'programs that others have written, through nginx',
  needs(clientBundle, ...programs, ...others),
  () => {
    before(prepare);

    for (const name of ['connect', 'listen'] as const) {
      describe(`by postern ${name}`, { concurrency: 2 }, () => recipes(name));
    }

    it("plink logs in through postern listen by PuTTY's own SOCKS5 and HTTP settings", async () => {
      for (const method of [2, 3]) {
        const home = scratch.path(`putty-${method}`);
        mkdirSync(`${home}/sessions`, { recursive: true });
        const settings = {
          HostName: box,
          PortNumber: 22,
          Protocol: 'ssh',
          UserName: world.sshd.user,
          ProxyMethod: method,
          ProxyHost: '127.0.0.1',
          ProxyPort: port,
          ProxyLocalhost: 1,
        };
        const lines = Object.entries(settings).map(([key, value]) => `${key}=${value}\n`);
        writeFileSync(`${home}/sessions/through`, lines.join(''));
        const argv = ['plink', '-batch', '-load', 'through', '-i', puttyKey, '-hostkey', fingerprint];
        const { code, stdout, stderr } = await run([...argv, 'echo over it; exit 7'], {
          env: { PUTTYDIR: home, HOME: home },
        });
        assert.deepEqual([code, stdout.toString()], [7, 'over it\n'], stderr.toString());
      }
    });
  },
);

function recipes(name: 'connect' | 'listen'): void {
  const way = (): Way => ways[name];
  const here = (what: string): string => scratch.path(`${name}-${what}`);

  const count = name === 'listen' ? 10 : 3;
  it(`ansible runs a module on ${count} hosts at once`, async () => {
    const hosts = Array.from({ length: count }, (_, index) => `web${index}`);
    const inventory = here('inventory');
    writeFileSync(
      inventory,
      `[all]
${hosts.map((host) => `${host} ansible_host=${box}`).join('\n')}
[all:vars]
ansible_python_interpreter=/usr/bin/python3
ansible_ssh_common_args=${way().ansibleArguments}
`,
    );
    const ansible = {
      ANSIBLE_HOME: here('ansible'),
      ANSIBLE_LOCAL_TEMP: here('ansible-tmp'),
      // Without a shared connection, so that each host has its own tunnel.
      ANSIBLE_SSH_ARGS: '-o ControlMaster=no',
      ANSIBLE_PIPELINING: '1',
    };
    const args = ['-i', inventory, '-f', '10', '-o', 'all', '-m', 'ping'];
    const { stdout } = await succeeded(
      run(['ansible', ...args], { env: { ...env, ...ansible, ANSIBLE_NOCOLOR: '1' }, timeoutMs: 120_000 }),
    );
    for (const host of hosts) assert.match(stdout.toString(), new RegExp(`^${host} \\| SUCCESS.*pong`, 'm'));
  });

  it('plink runs a command, and psftp puts and gets', async () => {
    const options = ['-batch', '-proxycmd', way().proxyCommand, '-i', puttyKey, '-hostkey', fingerprint];
    const who = `${world.sshd.user}@${box}`;
    const putty = { ...env, PUTTYDIR: here('putty') };
    const ran = await run(['plink', ...options, who, 'echo over it; exit 7'], { env: putty });
    assert.deepEqual([ran.code, ran.stdout.toString()], [7, 'over it\n'], ran.stderr.toString());
    const [file, there, back, script] = ['sent', 'there', 'back', 'script'].map((each) => here(each));
    writeFileSync(file!, randomBytes(mebibyte));
    writeFileSync(script!, `put ${file} ${there}\nget ${there} ${back}\n`);
    const copied = await run(['psftp', '-b', script!, ...options, who], { env: putty });
    assert.equal(copied.code, 0, copied.stderr.toString());
    assert.deepEqual(readFileSync(back!), readFileSync(file!));
  });

  it('paramiko reads the ProxyCommand out of the configuration', async () => {
    const script = here('paramiko.py');
    writeFileSync(
      script,
      `import paramiko, sys
configFile, box, user, key, knownHosts = sys.argv[1:]
found = paramiko.SSHConfig.from_path(configFile).lookup(box)
client = paramiko.SSHClient()
client.load_host_keys(knownHosts)
client.connect(box, username=user, key_filename=key, allow_agent=False, look_for_keys=False,
               sock=paramiko.ProxyCommand(found['proxycommand']))
_, stdout, _ = client.exec_command('echo over it; exit 7')
sys.stdout.write(stdout.read().decode())
code = stdout.channel.recv_exit_status()
client.close()
sys.exit(code)
`,
    );
    const knownHosts = here('known_hosts');
    writeFileSync(knownHosts, `${box} ${world.sshd.hostKey}\n`);
    const args = [way().configFile, box, world.sshd.user, world.sshd.identityFile, knownHosts];
    const { code, stdout, stderr } = await run(['python3', '-W', 'ignore', script, ...args], { env });
    assert.deepEqual([code, stdout.toString()], [7, 'over it\n'], stderr.toString());
  });

  it('VS Code has its way: no terminal, a script on stdin, a port forward beside it', async () => {
    const web = await listen(scratch, (socket) => {
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nthrough SOCKS'));
    });
    const socks = await freePort();
    const { configFile } = way().ssh;
    const argv = ['-T', '-D', String(socks), '-F', configFile, '-o', 'ConnectTimeout=15', box, 'bash -s'];
    const child = own(
      spawn('ssh', argv, {
        env: { ...process.env, ...env, DISPLAY: undefined },
        stdio: ['pipe', 'pipe', 'pipe'],
        detached: true,
      }),
    );
    const ended = once(child, 'close');
    child.stdin.write('echo listeningOn=1234\n');
    const [first] = (await once(child.stdout, 'data')) as [Buffer];
    assert.equal(first.toString(), 'listeningOn=1234\n');
    const curl = `curl -sS --socks5-hostname 127.0.0.1:${socks} http://127.0.0.1:${web}/`;
    assert.equal((await output(curl.split(' '))).toString(), 'through SOCKS');
    child.stdin.end('exit 5\n');
    assert.deepEqual(await ended, [5, null]);
  });

  it('git, hg and rsync carry files there and back', async () => {
    const ssh = way().sshCommand;
    const author = ['-c', 'user.name=tester', '-c', 'user.email=tester@gw.example'];
    const git = (...args: string[]) =>
      output(['git', ...author, ...args], { env: { ...env, GIT_SSH_COMMAND: ssh } });
    const hgConfig = ['--config', `ui.ssh=${ssh}`, '--config', 'ui.username=tester'];
    const hg = (...args: string[]) => output(['hg', ...hgConfig, ...args], { env });
    const bytes = randomBytes(100_000);

    await git('init', '-q', '--bare', here('git'));
    await git('clone', '-q', `${box}:${here('git')}`, here('git-work'));
    writeFileSync(join(here('git-work'), 'file'), bytes);
    await git('-C', here('git-work'), 'add', '.');
    await git('-C', here('git-work'), 'commit', '-q', '-m', 'one');
    await git('-C', here('git-work'), 'push', '-q', 'origin', 'HEAD');
    assert.deepEqual(await git('-C', here('git'), 'cat-file', 'blob', 'HEAD:file'), bytes);

    await hg('init', here('hg'));
    await hg('clone', '-q', `ssh://${box}/${here('hg')}`, here('hg-work'));
    writeFileSync(join(here('hg-work'), 'file'), bytes);
    await hg('--cwd', here('hg-work'), 'commit', '-q', '-A', '-m', 'one');
    await hg('--cwd', here('hg-work'), 'push', '-q');
    assert.deepEqual(await hg('--cwd', here('hg'), 'cat', '-r', 'tip', 'file'), bytes);

    const rsync = ['rsync', '-a', '-e', ssh];
    await output([...rsync, join(here('git-work'), 'file'), `${box}:${here('there')}`], { env });
    await output([...rsync, `${box}:${here('there')}`, here('back')], { env });
    assert.deepEqual(readFileSync(here('back')), bytes);
  });
}
