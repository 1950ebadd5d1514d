import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { own, within, type Environment, type Outcome } from './process.ts';
import type { Scratch } from './scratch.ts';
import { patient } from '../../support/slowness.ts';

/** What to type as soon as the terminal shows a prompt. */
export interface Answer {
  readonly prompt: RegExp;
  readonly type: string;
}

/** Runs a shell command in a terminal of its own and types the answers in order; everything shown is in `stdout`. */
export async function runInTerminal(
  command: string,
  answers: readonly Answer[],
  env: Environment,
): Promise<Outcome> {
  const child = own(
    spawn('script', ['-qefc', command, '/dev/null'], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: patient(30_000),
      killSignal: 'SIGKILL',
    }),
  );
  const chunks: Buffer[] = [];
  const waiting = [...answers];
  let seen = 0;
  child.stdin.on('error', () => {});
  child.stdout.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    const shown = Buffer.concat(chunks).toString('latin1');
    const answer = waiting[0];
    if (!answer?.prompt.test(shown.slice(seen))) return;
    seen = shown.length;
    waiting.shift();
    child.stdin.write(`${answer.type}\n`);
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code: code ?? signal!, stdout: Buffer.concat(chunks), stderr: Buffer.alloc(0) };
}

/** A command in a terminal of its own, with a person who reads and types. */
export interface Terminal {
  readonly pid: number;
  type(text: string): void;
  /** Resolves when `text` has been shown since the last `type`; rejects after two minutes (longer on a machine that is slow now), or when the command has ended. */
  shows(text: string): Promise<void>;
  /** Everything that was shown. */
  shown(): string;
  /** Resolves with the exit code or signal of the command. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** Types a word of its own and waits until it is shown. Returns the milliseconds until then. */
  echo(): Promise<number>;
}

let words = 0;

/** Starts a shell command in a terminal; it is ended at the end of the test file. */
export function openTerminal(
  scratch: Scratch,
  command: string,
  { env, namespace }: { readonly env: Environment; readonly namespace?: string | undefined },
): Terminal {
  const [program, ...args] = within(namespace, ['script', '-qefc', command, '/dev/null']);
  const child = own(
    spawn(program!, args, {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    }),
  );
  let shown = '';
  let typedAt = 0;
  let isOver = false;
  const watchers = new Set<() => void>();
  const look = (): void => {
    for (const watcher of watchers) watcher();
  };
  child.stdin.on('error', () => {});
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    shown += chunk;
    look();
  });
  const ended = once(child, 'close').then(([code, signal]) => {
    isOver = true;
    look();
    return (code ?? signal) as number | NodeJS.Signals;
  });
  scratch.onEnd(async () => {
    if (!isOver) process.kill(-child.pid!, 'SIGKILL');
    await ended;
  });
  const shows = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const limitMs = patient(120_000);
      const settle = (error?: Error): void => {
        watchers.delete(watcher);
        clearTimeout(late);
        if (error) reject(error);
        else resolve();
      };
      const fail = (why: string): void =>
        settle(
          new Error(`${JSON.stringify(text)} is not shown, ${why}: ${JSON.stringify(shown.slice(-2000))}`),
        );
      const watcher = (): void => {
        if (shown.includes(text, typedAt)) settle();
        else if (isOver) fail('the command has ended');
      };
      const late = setTimeout(() => fail(`after ${limitMs} ms`), limitMs);
      watchers.add(watcher);
      watcher();
    });
  const type = (text: string): void => {
    typedAt = shown.length;
    child.stdin.write(text);
  };
  return {
    pid: child.pid!,
    type,
    shows,
    shown: () => shown,
    ended,
    async echo() {
      const word = `word${++words}.`;
      const startedAt = performance.now();
      type(`${word}\r`);
      await shows(word);
      return performance.now() - startedAt;
    },
  };
}
