import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Server } from 'node:net';
import { predecessorVariable } from './systemd.ts';

/**
 * Starts this program again, from the same path, which may hold a newer one by now. It gets our listening socket, if
 * that can be passed, so that no caller is refused in between, and takes over as soon as it can serve.
 */
export function startSuccessor(fd: number | undefined, env: NodeJS.ProcessEnv): ChildProcess {
  const passed = fd === undefined ? {} : { [predecessorVariable]: String(process.pid) };
  const successor = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['ignore', 'inherit', 'inherit', fd ?? 'ignore'],
    env: { ...env, [predecessorVariable]: undefined, ...passed },
  });
  // It outlives us.
  successor.unref();
  return successor;
}

/** Node.js has no word for it; without one the successor listens beside us. */
export function descriptorOf(listener: Server): number | undefined {
  const { fd = -1 } = (listener as { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  return fd >= 0 ? fd : undefined;
}
