import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { patient } from '../../support/slowness.ts';
import type { Scratch } from './scratch.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What is left of a command when it has ended. */
export interface Outcome {
  /** The exit code, or the name of the signal that ended it. */
  readonly code: number | NodeJS.Signals;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export interface RunOptions {
  readonly env?: Environment;
  readonly cwd?: string;
  /** What it reads; absent: nothing, as from /dev/null. */
  readonly input?: string | Buffer;
  /** It has an input that never ends. */
  readonly openInput?: boolean;
  /** It is killed after this time (longer on a machine that is slow now), and then `code` is `SIGKILL`. */
  readonly timeoutMs?: number;
}

/** Runs a command to its end. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const [command, ...args] = argv;
  const child = own(
    spawn(command!, args, {
      env: { ...process.env, ...options.env },
      cwd: options.cwd,
      stdio: [options.input === undefined && !options.openInput ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      // A process group of its own: what ssh has started ends with it, and there is no terminal to ask on.
      detached: true,
    }),
  );
  const timeoutMs = patient(options.timeoutMs ?? 30_000);
  const killTimer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), timeoutMs);
  // A command that does not read its input to the end is no failure of ours.
  child.stdin?.on('error', () => {});
  if (!options.openInput) child.stdin?.end(options.input);
  const [stdout, stderr] = [collect(child.stdout!), collect(child.stderr!)];
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(killTimer);
  return { code: code ?? signal!, stdout: stdout(), stderr: stderr() };
}

/** Runs a command to its end and gives its output; anything but exit code 0 is an error that shows stderr. */
export async function output(argv: readonly string[], options: RunOptions = {}): Promise<Buffer> {
  const outcome = await run(argv, options);
  if (outcome.code !== 0) {
    throw new Error(`${argv.join(' ')} ended with ${outcome.code}:\n${outcome.stderr.toString()}`);
  }
  return outcome.stdout;
}

/** A program that keeps running beside the test. */
export interface Running {
  readonly pid: number;
  /** Everything it has printed, both outputs in one. */
  log(): string;
  /** Resolves with its exit code or signal. */
  readonly ended: Promise<number | NodeJS.Signals>;
  signal(signal: NodeJS.Signals): void;
  /** Ends it, at last with SIGKILL, and waits until it is gone. */
  readonly stop: () => Promise<void>;
}

export interface StartOptions {
  readonly env?: Environment;
  readonly cwd?: string;
  /** The loopback port that answers when it is ready. */
  readonly port: number;
  readonly stopSignal?: NodeJS.Signals;
  /** Where it writes what it has to say, if not to its outputs. */
  readonly logFile?: string;
}

/** Starts a program and waits until its port answers. It is stopped at the end of the test file. */
export async function start(
  scratch: Scratch,
  argv: readonly string[],
  options: StartOptions,
): Promise<Running> {
  const [command, ...args] = within(scratch.namespace, argv);
  const child = own(
    spawn(command!, args, {
      env: { ...process.env, ...options.env },
      cwd: options.cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  const log = () => {
    const { logFile } = options;
    return (
      Buffer.concat(chunks).toString() + (logFile && existsSync(logFile) ? readFileSync(logFile, 'utf8') : '')
    );
  };
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  const running: Running = {
    pid: child.pid!,
    log,
    ended,
    signal: (signal) => void child.kill(signal),
    stop: () => stop(child, ended, options.stopSignal ?? 'SIGTERM'),
  };
  scratch.onEnd(running.stop);
  await answers(options.port, ended, scratch.namespace).catch((cause: unknown) => {
    throw new Error(`${argv.join(' ')} did not start:\n${log()}`, { cause });
  });
  return running;
}

async function stop(child: ChildProcess, ended: Promise<unknown>, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  const patience = new AbortController();
  const waited = delay(patient(5_000), 'waited', { signal: patience.signal }).catch(() => 'ended');
  if ((await Promise.race([ended, waited])) === 'waited') child.kill('SIGKILL');
  patience.abort();
  await ended;
}

/** The command that runs `argv` in a network namespace; in the one of the tests when there is no name. */
export function within(namespace: string | undefined, argv: readonly string[]): readonly string[] {
  return namespace === undefined ? argv : ['ip', 'netns', 'exec', namespace, ...argv];
}

/**
 * Polls a loopback port, or any port of that number in a network namespace, until it answers; throws after 15 s on a quiet
 * machine, or when `ended` settles first.
 */
export async function answers(port: number, ended: Promise<unknown>, namespace?: string): Promise<void> {
  let running = true;
  void ended.then(() => (running = false));
  const until = Date.now() + patient(15_000);
  while (Date.now() < until) {
    const open = namespace === undefined ? await connects(port) : await listens(port, namespace);
    if (!running) throw new Error('it has ended');
    if (open) return;
    await delay(50);
  }
  throw new Error(`port ${port} does not answer`);
}

/** The children of a process. */
export async function childrenOf(pid: number): Promise<number[]> {
  const { stdout } = await run(['pgrep', '-P', String(pid)]);
  return stdout.toString().split('\n').filter(Boolean).map(Number);
}

/** Polls until something holds; throws when it does not within the time, which is longer on a machine that is slow now. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  what = 'what is waited for',
  limitMs = 15_000,
): Promise<void> {
  const patientMs = patient(limitMs);
  const until = Date.now() + patientMs;
  while (!(await holds())) {
    if (Date.now() > until) throw new Error(`${what} did not come within ${patientMs} ms`);
    await delay(20);
  }
}

async function listens(port: number, namespace: string): Promise<boolean> {
  const { stdout } = await run(within(namespace, ['ss', '-Hlnt', `sport = :${port}`]));
  return stdout.length > 0;
}

function connects(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/**
 * A loopback port on which no process listens. It is below the range of the ports that outgoing connections get
 * (32768 on Linux), so that no connection takes it before the program that it is for.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = 10_240 + Math.floor(Math.random() * 22_000);
    if (await isFree(port)) return port;
  }
  throw new Error('no free port');
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

const children = new Set<ChildProcess>();

/** Remembers a child, so that it does not outlive this process. */
export function own<Child extends ChildProcess>(child: Child): Child {
  children.add(child);
  child.once('close', () => children.delete(child));
  return child;
}

function collect(stream: NodeJS.ReadableStream): () => Buffer {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks);
}

// The runner ends a test file that takes too long with SIGTERM.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => process.exit(1));
process.once('exit', () => {
  for (const child of children) child.kill('SIGTERM');
});
