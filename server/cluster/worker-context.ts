import { firstPassedFd, socketsFromPeer } from '../listener/passed-sockets.ts';
import type { PassedSocket } from '../listener/passed-sockets.ts';
import { peerVersion } from './peer-messages.ts';

/** Names the process that has started this one as one of its workers, and says what it needs: see `WorkerContext`. */
export const workerVariable = 'POSTERN_WORKER';

/** The facts that a supervisor passes to each of its workers. */
export interface WorkerContext {
  /** The instance name of the supervisor. */
  readonly generation: string;
  /** From 1 on; the worker that replaces another has its number. */
  readonly number: number;
  /** The number of workers. */
  readonly workers: number;
  /** The worker's own column of the shared counts, from 0 on. */
  readonly column: number;
  /** The number of columns. */
  readonly columns: number;
}

/** The same as a worker receives it. */
export interface StartedWorker extends WorkerContext {
  /** The version of the messages that the supervisor reads. */
  readonly supervisorVersion: number;
  /** The supervisor writes the audit for its workers; one of an earlier version does not. */
  readonly writesAudit: boolean;
}

/** For the environment of a worker; workers of version 0 do not read the version at its end. */
export function formatWorkerContext(context: WorkerContext): string {
  const { generation, number, workers, column, columns } = context;
  return [process.pid, generation, number, workers, column, columns, peerVersion, 1].join(' ');
}

/** The context of this process when another process of the gateway has started it as a worker. */
export function workerContext(env: NodeJS.ProcessEnv): StartedWorker | undefined {
  const [supervisor, generation, ...numbers] = (env[workerVariable] ?? '').split(' ');
  if (supervisor !== String(process.ppid) || generation === undefined || process.send === undefined)
    return undefined;
  const [number, workers, column, columns, supervisorVersion = 0, audit] = numbers.map(Number);
  if (number === undefined || workers === undefined || column === undefined || columns === undefined)
    return undefined;
  return { generation, number, workers, column, columns, supervisorVersion, writesAudit: audit === 1 };
}

/** The descriptors of a worker: its public listeners, and after them the file of the shared counts. */
export function workerDescriptors(env: NodeJS.ProcessEnv): {
  readonly sockets: readonly PassedSocket[];
  readonly counts: number;
} {
  const sockets = socketsFromPeer(env);
  return { sockets, counts: firstPassedFd + sockets.length };
}
