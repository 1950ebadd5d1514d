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

/** Names the process that has started this one as one of its workers, and tells what it needs: see `WorkerPlace`. */
export const workerVariable = 'POSTERN_WORKER';

/** Where a worker's own sockets and files are among its descriptors. */
export const workerFds = { socket: firstPassedFd, counts: firstPassedFd + 1 } as const;

/** What a worker is told of its place. */
export interface WorkerPlace {
  /** The instance name of the process that leads it. */
  readonly generation: string;
  /** From 1 on; a worker that is replaced leaves it to the next one. */
  readonly number: number;
  /** How many workers there are. */
  readonly workers: number;
  /** Which of how many columns of the shared counts is its own. */
  readonly column: number;
  readonly columns: number;
}

/** For the environment of a worker. */
export function formatWorkerPlace({ generation, number, workers, column, columns }: WorkerPlace): string {
  return [process.pid, generation, number, workers, column, columns].join(' ');
}

/** This process's place when another process of the gateway has started it as a worker. */
export function workerPlace(env: NodeJS.ProcessEnv): WorkerPlace | undefined {
  const [leader, generation, ...numbers] = (env[workerVariable] ?? '').split(' ');
  if (leader !== String(process.ppid) || generation === undefined || process.send === undefined)
    return undefined;
  const [number, workers, column, columns] = numbers.map(Number);
  if (columns === undefined) return undefined;
  return { generation, number: number!, workers: workers!, column: column!, columns };
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
