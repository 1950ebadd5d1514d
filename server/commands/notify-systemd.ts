import { spawn } from 'node:child_process';

/**
 * Reports a state to systemd, as in sd_notify(3), where it listens; resolves in any case. Node.js cannot write to a unix
 * datagram socket, so systemd's own small program does it.
 */
export async function notifySystemd(state: string, env: NodeJS.ProcessEnv): Promise<void> {
  if (env.NOTIFY_SOCKET === undefined) return;
  await new Promise<void>((resolve) => {
    const child = spawn('systemd-notify', [`--pid=${process.pid}`, state], { stdio: 'ignore' });
    child.once('error', () => resolve()).once('close', () => resolve());
  });
}
