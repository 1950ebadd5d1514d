import { spawn } from 'node:child_process';

/** The first socket that systemd passes (sd_listen_fds(3)). */
const firstPassedFd = 3;

/** Names the process that has started this one to take over from it, and has passed it its listening socket. */
export const predecessorVariable = 'POSTERN_PREDECESSOR';

/** The descriptor of the listening socket that systemd, or the process before us, has opened for this process. */
export function passedSocket(env: NodeJS.ProcessEnv): number | undefined {
  const bySystemd = env.LISTEN_PID === String(process.pid) && Number(env.LISTEN_FDS) >= 1;
  const byPredecessor = env[predecessorVariable] === String(process.ppid);
  return bySystemd || byPredecessor ? firstPassedFd : undefined;
}

/**
 * Tells systemd a state, as in sd_notify(3), where it listens; resolves in any case. Node.js cannot write to a unix
 * datagram socket, so systemd's own small program does it.
 */
export async function notifySystemd(state: string, env: NodeJS.ProcessEnv): Promise<void> {
  if (env.NOTIFY_SOCKET === undefined) return;
  await new Promise<void>((resolve) => {
    const child = spawn('systemd-notify', [`--pid=${process.pid}`, state], { stdio: 'ignore' });
    child.once('error', () => resolve()).once('close', () => resolve());
  });
}
