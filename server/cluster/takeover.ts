import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { z } from 'zod';
import type { Config } from '../config/config.ts';
import type { Listeners } from '../listener/listeners.ts';
import { FileLock } from '../store/file-lock.ts';
import { requestJson } from './peer-client.ts';
import { gatewayDescription } from './peer-messages.ts';
import type { Peers } from './peers.ts';
import type { RuntimeDirectory } from './runtime-directory.ts';

/** Time for the old process to answer: nothing but its own event loop can delay it. */
const responseMs = 10_000;

/** Of several processes that start at once, one takes over after the other. */
const lockMs = 30_000;

/** The process that serves now, as the process that wants to take over from it sees it. */
export interface Served {
  readonly publicUrl: URL;
  /** How many processes of this gateway have taken over one from the other, this one included. */
  readonly generation: number;
  /** Stops listening where the other process listens now. */
  stopAccepting(): Promise<void>;
}

/** Adds to the control socket what a process needs that wants to take over. */
export function takeoverRoutes(app: FastifyInstance, served: Served): void {
  app.get('/gateway', (_request, reply) =>
    reply.send({ publicUrl: served.publicUrl.href, generation: served.generation }),
  );
  app.post('/yield', async (_request, reply) => {
    await served.stopAccepting();
    return reply.send({});
  });
}

export interface TakeoverParts {
  readonly config: Pick<Config, 'control' | 'publicUrl'>;
  readonly directory: RuntimeDirectory;
  readonly peers: Peers;
}

/**
 * Listens everywhere. If another process of the gateway does so already, that one continues until this one listens too,
 * and stops only then; where this does not succeed, the other continues for good. Resolves to the generation of this
 * process: 1, or one more than that of the other. Rejects with a message for people.
 */
export async function openOrTakeOver(
  listeners: Listeners,
  { config: { control, publicUrl }, directory, peers }: TakeoverParts,
): Promise<number> {
  const lock = new FileLock(join(directory.directory, 'takeover.lock'));
  try {
    const release = await lock.acquire(lockMs);
    const served = await servedBy(control.path, publicUrl);
    const mode = served ? 'takeover' : 'exclusive';
    await listeners.open(mode);
    if (mode === 'takeover') await stopPredecessor(control.path);
    await listeners.openControl(mode);
    await peers.broadcast('succeeded');
    release();
    return served ? (served.generation ?? 1) + 1 : 1;
  } finally {
    lock.close();
  }
}

/**
 * The process of this gateway that runs, from which this one has to take over; undefined when there is none. Rejects when something else answers at
 * its control socket, and when the socket is open and nothing answers.
 */
async function servedBy(
  controlPath: string,
  publicUrl: URL,
): Promise<z.output<typeof gatewayDescription> | undefined> {
  const response = await requestJson(controlPath, { path: '/gateway', timeoutMs: responseMs }).catch(
    unlessEnded,
  );
  if (response === undefined) return undefined;
  const { data } = gatewayDescription.safeParse(response.body);
  if (data === undefined)
    throw new Error(`cannot listen on ${controlPath}: a gateway that cannot be taken over from has it`);
  if (data.publicUrl !== publicUrl.href)
    throw new Error(`cannot listen on ${controlPath}: the gateway of ${data.publicUrl} has it`);
  return data;
}

/** Asks the old process to stop listening. It keeps its tunnels. */
async function stopPredecessor(controlPath: string): Promise<void> {
  const response = await requestJson(controlPath, { path: '/yield', body: {}, timeoutMs: responseMs }).catch(
    unlessEnded,
  );
  if (response !== undefined && response.status >= 300)
    throw new Error(`the gateway at ${controlPath} refuses to be taken over from (${response.status})`);
}

/** Undefined for a process that has ended in this moment; throws for every other error. */
function unlessEnded(error: unknown): undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
  throw new Error(`the running gateway does not answer (${(error as Error).message})`, { cause: error });
}
