import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { signInDirectory } from '../../../client/credentials/session-store.ts';
import { own } from '../../e2e/support/process.ts';
import { temporaryDirectory } from '../support.ts';

const client = join(import.meta.dirname, '../../../client/main.ts');

/** What is left of a command when it has ended. */
export interface Finished {
  readonly status: number | NodeJS.Signals;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that may still run. */
export interface Command {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Resolves as soon as it has said something like this on stderr, to what stood in the first brackets. */
  said(pattern: RegExp): Promise<string>;
}

/** A person's home, a browser in it, and the postern they start. */
export class Home {
  readonly path: string;
  readonly state: string;
  readonly env: Record<string, string>;
  readonly #t: TestContext;
  readonly #log: string;

  constructor(t: TestContext, gateway: URL, env: Record<string, string> = {}) {
    this.#t = t;
    this.path = temporaryDirectory(t);
    this.state = join(this.path, '.local/state/postern');
    this.#log = join(this.path, 'browser.log');
    const browser = join(import.meta.dirname, 'browser.ts');
    this.env = {
      HOME: this.path,
      PATH: process.env['PATH']!,
      POSTERN_GATEWAY: gateway.href,
      BROWSER: `${process.execPath} ${browser} ${this.#log} %s`,
      ...env,
    };
  }

  /** The command line that runs postern. */
  get postern(): readonly string[] {
    return [process.execPath, client];
  }

  /** Starts postern, without a terminal. */
  start(args: readonly string[], env: Record<string, string> = {}): Command {
    const child = own(
      spawn(process.execPath, [client, ...args], {
        env: { ...this.env, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      }),
    );
    this.#t.after(() => child.kill('SIGKILL'));
    return watch(child);
  }

  run(...args: string[]): Promise<Finished> {
    return this.start(args).finished;
  }

  /** How often a browser has been opened. */
  get browsers(): number {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8').split('opened').length - 1 : 0;
  }

  /** Where the sign-in at `gateway` is. */
  directory(gateway: URL): string {
    return signInDirectory(this.state, gateway);
  }
}

/** Collects what a child says. */
export function watch(child: ChildProcess): Command {
  const [stdout, stderr] = [collect(child.stdout!), collect(child.stderr!)];
  const finished = once(child, 'close').then(([code, signal]) => ({
    status: (code ?? signal) as number | NodeJS.Signals,
    stdout: stdout(),
    stderr: stderr(),
  }));
  const said = (pattern: RegExp): Promise<string> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = pattern.exec(stderr());
        if (found) resolve(found[1] ?? found[0]);
      };
      child.stderr!.on('data', look);
      look();
      void finished.then(({ stderr: text }) => reject(new Error(`it only said: ${text}`)));
    });
  return { child, finished, said };
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = '';
  stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return () => text;
}
