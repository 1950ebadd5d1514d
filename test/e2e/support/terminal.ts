import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { own, type Environment, type Outcome } from './process.ts';

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
      timeout: 30_000,
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
