// `npm run demo`: a gateway, an SSH server behind it, and a real ssh through it, by name. Everything is in a temporary
// folder, on loopback, and gone at the end.
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { parseArgs } from '../base/parse-args.ts';
import { startDemoSshServer } from './demo-ssh-server.ts';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const once = readOnce();
/** The path of sshd; without one, the server of the npm package ssh2 takes its place. */
const sshdPath = process.env.POSTERN_DEMO_SSHD ?? '/usr/sbin/sshd';
const readyWithinMs = 15_000;

const folder = await mkdtemp(join(tmpdir(), 'postern-demo-'));
const children: ChildProcess[] = [];

try {
  process.exitCode = await demo();
} catch (error) {
  console.error(`postern demo: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  for (const child of children) child.kill('SIGTERM');
  await rm(folder, { recursive: true, force: true });
}
process.exit();

async function demo(): Promise<number> {
  if (!(await hasSsh()))
    throw new Error('there is no ssh on this machine; install an OpenSSH client (openssh-client)');
  console.log('postern demo: everything is on loopback and in a temporary folder\n');

  const ssh = await startSshServer();
  say('SSH server', `127.0.0.1:${ssh.port}, ${ssh.what}`);

  const [gatewayPort, adminPort] = [await freePort(), await freePort()];
  const gatewayUrl = `http://127.0.0.1:${gatewayPort}/ssh/`;
  const configFile = join(folder, 'postern.yaml');
  await writeFile(configFile, configText(gatewayPort, adminPort, ssh.port));
  await startGateway(configFile, adminPort);
  say('gateway', `${gatewayUrl}, its key, policy and audit log in ${folder}`);

  const tokenFile = join(folder, 'token');
  const who = ['--subject', 'you', '--group', 'dev', '--ttl', '8h'];
  const { stdout: token } = await execute(
    process.execPath,
    gatewayCommand('token', '--config', configFile, ...who),
  );
  await writeFile(tokenFile, token, { mode: 0o600 });
  say('token', 'for "you" in group dev, valid for 8 hours');

  const sshConfig = join(folder, 'ssh_config');
  await writeFile(sshConfig, sshConfigText(gatewayUrl, tokenFile));
  const { stdout: greeting } = await execute(
    'ssh',
    ['-F', sshConfig, 'box', 'echo "hello from box, $(whoami)"'],
    {
      timeout: readyWithinMs,
    },
  );
  say('ssh box', `"${greeting.trim()}"`);
  if (!greeting.startsWith('hello from box')) throw new Error('ssh did not reach the SSH server');

  await sayAudit();
  console.log('\nA real ssh session went through the gateway by name, encrypted end to end.');
  if (once) return 0;
  console.log(`Try it from another terminal:\n\n  ssh -F ${sshConfig} box\n\nCtrl-C stops everything.`);
  await new Promise<void>((resolve) => process.once('SIGINT', resolve).once('SIGTERM', resolve));
  return 0;
}

function readOnce(): boolean {
  try {
    return parseArgs({ options: { once: { type: 'boolean', default: false } } }).values.once;
  } catch (error) {
    console.error(`postern demo: ${(error as Error).message}`);
    return process.exit(2);
  }
}

function say(what: string, how: string): void {
  console.log(`  ${what.padEnd(12)}${how}`);
}

/** The audit's opening record of the session, as the security officer would see it. */
async function sayAudit(): Promise<void> {
  const lines = (await readFile(join(folder, 'audit.jsonl'), 'utf8')).trim().split('\n');
  const opened = lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .find(({ event }) => event === 'open');
  if (!opened) throw new Error('the audit log has no record of the session');
  say(
    'audit',
    `${String(opened.subject)} opened ${String(opened.target)} at ${String(opened.address)} by ${String(opened.rule)}`,
  );
}

async function hasSsh(): Promise<boolean> {
  return execute('ssh', ['-V']).then(
    () => true,
    () => false,
  );
}

async function startSshServer(): Promise<{ port: number; what: string }> {
  const [hostKey, userKey] = [join(folder, 'host_key'), join(folder, 'user_key')];
  for (const file of [hostKey, userKey])
    await execute('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  const hostPublic = (await readFile(`${hostKey}.pub`, 'utf8')).split(' ').slice(0, 2).join(' ');
  await writeFile(join(folder, 'known_hosts'), `box ${hostPublic}\n`);
  if (!existsSync(sshdPath)) {
    const port = await startDemoSshServer(
      await readFile(hostKey, 'utf8'),
      await readFile(`${userKey}.pub`, 'utf8'),
    );
    return { port, what: 'from the npm package ssh2 (this machine has no sshd)' };
  }
  const port = await freePort();
  const config = join(folder, 'sshd_config');
  await writeFile(config, sshdConfigText(port, hostKey, userKey));
  // sshd requires its privilege separation folder, which a service manager would have created.
  if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  await untilAnswers(start(sshdPath, ['-D', '-e', '-f', config]), port);
  return { port, what: "this machine's sshd, with its own key" };
}

function sshdConfigText(port: number, hostKey: string, userKey: string): string {
  return `
ListenAddress 127.0.0.1:${port}
HostKey ${hostKey}
AuthorizedKeysFile ${userKey}.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
`;
}

function configText(port: number, adminPort: number, sshPort: number): string {
  return `
listen: 127.0.0.1:${port}
admin: 127.0.0.1:${adminPort}
publicUrl: http://127.0.0.1:${port}/ssh/
targets:
  box: { address: "127.0.0.1:${sshPort}" }
rules:
  - { groups: [dev], targets: [box] }
network: { allow: [127.0.0.1/32] }
audit: { file: ./audit.jsonl, required: true }
log: { level: error }
`;
}

function sshConfigText(gatewayUrl: string, tokenFile: string): string {
  const client = `"${process.execPath}" "${join(root, 'dist/postern.cjs')}"`;
  return `
Host box
  User ${userInfo().username}
  IdentityFile ${join(folder, 'user_key')}
  IdentitiesOnly yes
  UserKnownHostsFile ${join(folder, 'known_hosts')}
  StrictHostKeyChecking yes
  ProxyCommand ${client} connect --gateway ${gatewayUrl} --token-file ${tokenFile} %h %p
`;
}

async function startGateway(configFile: string, adminPort: number): Promise<void> {
  await untilAnswers(start(process.execPath, gatewayCommand('serve', '--config', configFile)), adminPort);
}

function gatewayCommand(...args: string[]): string[] {
  return [join(root, 'server/main.ts'), ...args];
}

function start(program: string, args: string[]): ChildProcess {
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'pipe'] });
  child.stderr?.on('data', () => {});
  children.push(child);
  return child;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function untilAnswers(child: ChildProcess, port: number): Promise<void> {
  const deadline = Date.now() + readyWithinMs;
  while (!(await answers(port))) {
    if (child.exitCode !== null) throw new Error(`${child.spawnfile} ended with exit code ${child.exitCode}`);
    if (Date.now() > deadline) throw new Error(`${child.spawnfile} does not answer on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: '127.0.0.1', port });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
