import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { predecessorVariable, socketNames } from '../listener/passed-sockets.ts';
import type { PassedSocket } from '../listener/passed-sockets.ts';

/**
 * Starts this program again, from the same path, where a newer one can be by now. It gets the listening sockets that can
 * be passed, with their names, so that no caller is refused in between, and takes over as soon as it can serve.
 */
export function startSuccessor(sockets: readonly PassedSocket[], env: NodeJS.ProcessEnv): ChildProcess {
  const passed =
    sockets.length === 0
      ? { [predecessorVariable]: undefined }
      : { [predecessorVariable]: String(process.pid), ...socketNames(sockets) };
  const successor = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['ignore', 'inherit', 'inherit', ...sockets.map(({ fd }) => fd)],
    env: { ...env, ...passed },
  });
  // It outlives this process.
  successor.unref();
  return successor;
}
