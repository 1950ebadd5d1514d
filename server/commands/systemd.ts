import { spawn } from 'node:child_process';

/** Neither a start nor a reload waits for a service manager that does not answer. */
const notifyMs = 5000;

/**
 * Reports a state to systemd, as in sd_notify(3), where it listens; resolves in any case. Node.js cannot write to a unix
 * datagram socket, so systemd's own small program does it.
 */
export async function notifySystemd(state: string, env: NodeJS.ProcessEnv): Promise<void> {
  if (env.NOTIFY_SOCKET === undefined) return;
  await new Promise<void>((resolve) => {
    const args = [`--pid=${process.pid}`, state];
    const child = spawn('systemd-notify', args, { stdio: 'ignore', timeout: notifyMs });
    child.once('error', () => resolve()).once('close', () => resolve());
  });
}
