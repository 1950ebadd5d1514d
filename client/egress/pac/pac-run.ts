import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { onAbort } from '../../../base/deadline.ts';
import { ClientError } from '../../errors/failure.ts';
import { printable } from '../../os/terminal.ts';

/** A request to a PAC file. */
export interface PacRequest {
  readonly script: string;
  readonly url: string;
  readonly host: string;
}

/** The response of the thread that runs it. */
export type PacResponse = { readonly result: string } | { readonly failed: string };

/** Time limit including name lookups. */
const runMs = 5000;
const maxHeapMiB = 128;

/** Runs a PAC file in a sandbox in a thread of its own, within 5 s. Throws `PAC_FAILED`. */
export async function runPac(request: PacRequest, signal: AbortSignal): Promise<string> {
  const path = workerPath();
  // Only the main file may have been copied.
  if (!existsSync(path))
    throw new ClientError('PAC_FAILED', `PAC files need ${path}, a part of postern that is missing`);
  const worker = new Worker(path, {
    workerData: request,
    env: {},
    execArgv: [],
    // Its output must not get into ours: stdout carries SSH.
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: maxHeapMiB },
  });
  try {
    return await answerOf(worker, signal);
  } finally {
    await worker.terminate();
  }
}

function answerOf(worker: Worker, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let removeListener: (() => void) | undefined;
    const stop = (): void => {
      clearTimeout(timer);
      removeListener?.();
    };
    const fail = (what: string, cause?: unknown): void => {
      stop();
      reject(new ClientError('PAC_FAILED', `the PAC file ${what}`, { cause }));
    };
    const onTimeout = (): void => fail('took too long');
    const timer = setTimeout(onTimeout, runMs);
    worker.once('message', (answer: PacResponse) => {
      if ('failed' in answer) return fail(`does not run: ${excerpt(answer.failed)}`);
      stop();
      resolve(answer.result);
    });
    worker.on('error', (error: Error) => fail(`does not run: ${excerpt(error.message)}`, error));
    worker.once('exit', () => fail('ended without a result'));
    // Can fail at once.
    removeListener = onAbort(signal, onTimeout);
  });
}

function excerpt(text: string): string {
  return printable(text).slice(0, 200);
}

declare const __filename: string | undefined;

/** The worker is a second file beside the bundle, so that it is not loaded without a PAC file. */
function workerPath(): string {
  if (typeof __filename === 'string') return join(dirname(__filename), 'postern-pac.cjs');
  return fileURLToPath(new URL('pac-worker.ts', import.meta.url));
}
