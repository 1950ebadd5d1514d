import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { onAbort } from '../../../base/deadline.ts';
import { ClientError } from '../../errors/failure.ts';
import { printable } from '../../os/terminal.ts';
import { answerLookups } from './name-lookups.ts';
import type { LookupChannel } from './name-lookups.ts';

/** A request to a PAC file. */
export interface PacRequest {
  readonly script: string;
  readonly url: string;
  readonly host: string;
}

/** The input of the thread that runs it. */
export interface PacWorkerData extends PacRequest {
  readonly lookups: LookupChannel;
}

/**
 * The end of a run: the text that FindProxyForURL returned; `failed`, why it returned none; or `unusable`, why there is no
 * such function at all. Both are predicates of the PAC file.
 */
export type PacOutcome =
  { readonly result: string } | { readonly failed: string } | { readonly unusable: string };

/** Time limit including name lookups. */
const runMs = 5000;
const maxHeapMiB = 128;

/**
 * Runs a PAC file in a sandbox in a thread of its own, within 5 s. Resolves to the text that it returned or to why its
 * function failed. Throws `PAC_FAILED` for a file that cannot be run or does not end.
 */
export async function runPac(
  request: PacRequest,
  signal: AbortSignal,
): Promise<{ readonly result: string } | { readonly failed: string }> {
  const path = workerPath();
  // Only the main file may have been copied.
  if (!existsSync(path))
    throw new ClientError('PAC_FAILED', `PAC files need ${path}, a part of postern that is missing`);
  const lookups = answerLookups();
  const worker = new Worker(path, {
    workerData: { ...request, lookups: lookups.channel } satisfies PacWorkerData,
    transferList: [lookups.channel.port],
    env: {},
    execArgv: [],
    // Its output must not get into ours: stdout carries SSH.
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: maxHeapMiB },
  });
  try {
    const outcome = await outcomeOf(worker, signal);
    if ('unusable' in outcome) throw pacFailed(outcome.unusable);
    return 'failed' in outcome ? { failed: excerpt(outcome.failed) } : outcome;
  } finally {
    lookups.close();
    await worker.terminate();
  }
}

function outcomeOf(worker: Worker, signal: AbortSignal): Promise<PacOutcome> {
  return new Promise((resolve, reject) => {
    let removeListener: (() => void) | undefined;
    const stop = (): void => {
      clearTimeout(timer);
      removeListener?.();
    };
    const fail = (what: string, cause?: unknown): void => {
      stop();
      reject(pacFailed(what, cause));
    };
    const onTimeout = (): void => fail('took too long');
    const timer = setTimeout(onTimeout, runMs);
    worker.once('message', (outcome: PacOutcome) => {
      stop();
      resolve(outcome);
    });
    worker.on('error', (error: Error) => fail(`does not run: ${error.message}`, error));
    worker.once('exit', () => fail('ended without a result'));
    // Can fail at once.
    removeListener = onAbort(signal, onTimeout);
  });
}

function pacFailed(what: string, cause?: unknown): ClientError {
  return new ClientError('PAC_FAILED', `the PAC file ${excerpt(what)}`, { cause });
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
