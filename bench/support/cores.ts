import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';

/**
 * Leaves the first core to the gateway, which `startGateway` puts there: what asks it, in this process, uses the others.
 * Where there is one core only, both share it.
 */
export function leaveCoreToGateway(): void {
  if (cpus().length < 2) return;
  execFileSync('taskset', ['-a', '-c', '-p', `1-${cpus().length - 1}`, String(process.pid)], {
    stdio: 'ignore',
  });
}
