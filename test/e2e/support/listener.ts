import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { eventually, own, within, type Environment } from './process.ts';
import type { Scratch } from './scratch.ts';
import { clientCommand } from './ssh.ts';

/** One line of `postern listen --json`. */
export type ListenerEvent = Readonly<Record<string, unknown>>;

/** A `postern listen` that runs beside the test. */
export interface Listener {
  readonly pid: number;
  /** The port, or the path, of the n-th door. */
  door(index: number): string;
  port(index?: number): number;
  events(): readonly ListenerEvent[];
  /** The codes of all failures so far. */
  codes(): readonly unknown[];
  /** The codes of the failures that `act` causes, at least one. */
  failures(act: () => Promise<unknown>): Promise<readonly unknown[]>;
  /** What it says to people. */
  said(): string;
  signal(signal: NodeJS.Signals): void;
  readonly ended: Promise<number | NodeJS.Signals>;
}

/** Starts the client as it is shipped, waits until its doors are open, and ends it at the end of the test file. */
export async function startListener(
  scratch: Scratch,
  args: readonly string[],
  env: Environment,
  namespace?: string,
): Promise<Listener> {
  const [command, ...rest] = within(namespace, clientCommand('listen', '--json', ...args));
  const child = own(
    spawn(command!, rest, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] }),
  );
  let [shown, said] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  let isOver = false;
  void ended.then(() => (isOver = true));
  scratch.onEnd(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const events = (): readonly ListenerEvent[] =>
    shown
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as ListenerEvent);
  await eventually(() => events().length > 0 || isOver, 'a line of postern listen');
  if (isOver) throw new Error(`postern listen ended:\n${said}`);
  const door = (index: number): string =>
    (events()[0]!['doors'] as readonly { readonly address: string }[])[index]!.address;
  const codes = (): readonly unknown[] =>
    events().flatMap(({ event, code }) => (event === 'failed' ? [code] : []));
  return {
    pid: child.pid!,
    door,
    port: (index = 0) => Number(door(index).split(':').at(-1)),
    events,
    codes,
    async failures(act) {
      const before = codes().length;
      await act();
      await eventually(() => codes().length > before, 'a failure');
      return codes().slice(before);
    },
    said: () => said,
    signal: (signal) => void child.kill(signal),
    ended,
  };
}
