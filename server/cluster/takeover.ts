import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { requestJson } from './peer-client.ts';
import type { PeerResponse } from './peer-client.ts';

/** The old process may have to wait for nothing but its own event loop. */
const answerMs = 10_000;

const described = z.object({ publicUrl: z.string() });

/** The process that serves now, as far as one that wants to take over has to do with it. */
export interface Served {
  readonly publicUrl: URL;
  /** Stops listening where the other one listens now. */
  stopAccepting(): Promise<void>;
}

/** What the control socket says to a process that wants to take over. */
export function takeoverRoutes(app: FastifyInstance, served: Served): void {
  app.get('/gateway', (_request, reply) => reply.send({ publicUrl: served.publicUrl.href }));
  app.post('/yield', async (_request, reply) => {
    await served.stopAccepting();
    return reply.send({});
  });
}

/**
 * Whether a process of this gateway runs, from which we have to take over. Rejects when something else answers at its
 * control socket, or nobody although it is open.
 */
export async function isServed(controlPath: string, publicUrl: URL): Promise<boolean> {
  const answer = await requestJson(controlPath, { path: '/gateway', timeoutMs: answerMs }).catch(unlessNobody);
  if (answer === undefined) return false;
  const { data } = described.safeParse(answer.body);
  if (data === undefined)
    throw new Error(`cannot listen on ${controlPath}: a gateway that cannot be taken over from has it`);
  if (data.publicUrl !== publicUrl.href)
    throw new Error(`cannot listen on ${controlPath}: the gateway of ${data.publicUrl} has it`);
  return true;
}

/** Asks it to stop listening. It keeps its tunnels. */
export async function takeOver(controlPath: string): Promise<void> {
  const answer = await requestJson(controlPath, { path: '/yield', body: {}, timeoutMs: answerMs }).catch(
    unlessNobody,
  );
  if (answer !== undefined && answer.status >= 300)
    throw new Error(
      `the gateway at ${controlPath} does not let itself be taken over from (${answer.status})`,
    );
}

/** It may have ended in this moment. */
function unlessNobody(error: unknown): undefined | PeerResponse {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return undefined;
  throw new Error(`the gateway that runs does not answer (${(error as Error).message})`, { cause: error });
}
