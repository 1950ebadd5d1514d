import { execFile } from 'node:child_process';
import { onAbort } from '../../../base/deadline.ts';

/** Runs a program of the system and resolves to its output. */
export type RunCommand = (
  argv: readonly [string, ...string[]],
  signal: AbortSignal,
) => Promise<string | undefined>;

const commandMs = 5000;
const maxOutputBytes = 16 * 1024 * 1024;

/** Runs a program of the system, without a shell; undefined when it is missing, fails or takes longer than 5 s. */
export const runCommand: RunCommand = ([program, ...args], signal) =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve(undefined);
    const options = { timeout: commandMs, maxBuffer: maxOutputBytes, windowsHide: true };
    const child = execFile(program, args, options, (error, stdout) => {
      removeListener();
      resolve(error === null ? stdout : undefined);
    });
    const removeListener = onAbort(signal, () => void child.kill());
    child.stdin?.end();
  });
