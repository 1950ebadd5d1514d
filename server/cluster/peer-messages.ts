import type { IncomingHttpHeaders } from 'node:http';
import { z } from 'zod';
import type { SessionView } from '../admin/control.ts';
import type { DetachedScope } from '../policy/limits.ts';
import type { TunnelOwner } from '../resume/tunnel-locator.ts';
import type { MetricsSnapshot } from '../telemetry/metrics.ts';

/**
 * The messages between processes of one gateway, which can be of different versions while one takes over from another.
 * A reader ignores fields that it does not know. The version travels beside the messages, not in them: a process of
 * version 0 names none, and refuses some messages that have a field more than it knows.
 */
export const peerVersion = 1;

/** Carries `peerVersion` in every request and every JSON response on the socket of an instance. */
export const peerVersionField = 'Postern-Peer-Version';

/** The version of the process that has sent a message; 0 for one that names none. */
export function peerVersionOf(headers: IncomingHttpHeaders): number {
  const text = headers[peerVersionField.toLowerCase()];
  return typeof text === 'string' && /^\d{1,9}$/.test(text) ? Number(text) : 0;
}

/** The owner of a tunnel, as another process has verified it. */
export const ownerMessage: z.ZodType<TunnelOwner> = z.object({
  issuer: z.string(),
  subject: z.string(),
  keyThumbprint: z.string().exactOptional(),
});

/** The owner with no field but these. */
export function toOwnerMessage({ issuer, subject, keyThumbprint }: TunnelOwner): object {
  return { issuer, subject, keyThumbprint };
}

/** `POST /find`: a tunnel by its `sid`. */
export const findRequest = z.object({ sid: z.string(), holder: ownerMessage });

const target = z.object({ host: z.string(), port: z.number() });

/** The tunnel that `/find` has found. */
export const foundTunnel = z.object({ sessionId: z.string(), target, address: target });

/** Why a request was refused, with an error code of the gateway. */
export const refusalMessage = z.object({ code: z.string(), detail: z.string() });

/** `POST /revoke`: the session to end. */
export const revokeRequest = z.object({ sessionId: z.string() });

/** `POST /detached`: which detached tunnels are asked for. A process of an older version has no answer. */
export const detachedRequest: z.ZodType<DetachedScope> = z.union([
  z.object({ owner: z.object({ issuer: z.string(), subject: z.string() }) }),
  z.object({ target: z.string() }),
  z.object({ all: z.literal(true) }),
]);

/** The response to `POST /detached`: sessions, and the time since when they have no connection. */
export const detachedSessions = z.array(z.object({ sessionId: z.string(), since: z.number() }));

/** `POST /displace`: the session to end if it still has no connection. */
export const displaceRequest = z.object({ sessionId: z.string() });

/** `POST /succeeded`, `POST /stop`: the name of the sender, which processes of version 0 need not give. */
export const notice = z.object({ by: z.string().optional() });

/** `GET /sessions`. What newer processes say besides goes to the operator as it came. */
export const sessionViews: z.ZodType<readonly SessionView[]> = z.array(
  z.looseObject({
    id: z.string(),
    state: z.enum(['opening', 'open', 'detached']).catch('open'),
    detachedSince: z.number().exactOptional(),
    entry: z.string(),
    client: z.string(),
    issuer: z.string().exactOptional(),
    subject: z.string().exactOptional(),
    signIn: z.string().exactOptional(),
    tokenId: z.string().exactOptional(),
    keyThumbprint: z.string().exactOptional(),
    target: z.string().exactOptional(),
    address: z.string().exactOptional(),
    since: z.number(),
  }),
);

/** The response to `POST /kill`: how many sessions have ended. */
export const killed = z.object({ ended: z.number() });

const metric = z.object({ name: z.string(), type: z.unknown(), values: z.array(z.looseObject({})) });

/** `GET /figures`: metrics as the registry of a process of any version writes them. */
export const metricsSnapshot = z.custom<MetricsSnapshot>(
  (value) => z.array(metric).safeParse(value).success,
  'not the metrics of a process',
);

/** `POST /last-figures`: what a process that is about to end has counted. */
export const finalMetrics = z.object({
  instance: z.string(),
  worker: z.string().optional(),
  figures: metricsSnapshot,
});

/** `GET /obstacles`: why a worker would open no new tunnel. */
export const notReadyMessage = z.array(z.string());

/** `POST /reload`: the text of the config file; or else what was prepared takes effect, or is dropped. */
export const reloadRequest = z.union([
  z.object({ text: z.string() }),
  z.object({ step: z.enum(['commit', 'drop']) }),
]);

/** `POST /recheck`: the text of the config file that the process that answers for the gateway has in force. */
export const recheckRequest = z.object({ text: z.string() });

/** Why a worker has not prepared the settings, or a process has not read them. */
export const reloadRefusal = z.object({ detail: z.string() });

/** The first message of a supervisor to its worker. A worker of version 0 refuses it with any field more. */
export const workerOrders = z.object({ configText: z.string() });

/**
 * What a supervisor sends to a worker that listens: a ping, which its event loop has to answer, or a connection that
 * another worker has not accepted.
 */
export const workerRequest = z.union([
  z.object({ ping: z.literal(true) }),
  z.object({ connection: z.literal(true) }),
]);
export type WorkerRequest = z.output<typeof workerRequest>;

/** A report of a worker to its supervisor. One of version 0 ignores a notice that has a `v`, so it is sent none. */
export const workerNotice = z.union([
  z.object({
    v: z.number().exactOptional(),
    listening: z.string(),
    /** The worker answers `workerRequest`. */
    answers: z.boolean().exactOptional(),
  }),
  z.object({ v: z.number().exactOptional(), failing: z.literal(true) }),
  /** The answer to a ping: why no new tunnel would open at the worker. */
  z.object({ v: z.number().exactOptional(), pong: z.array(z.string()) }),
]);
export type WorkerNotice = z.output<typeof workerNotice>;

/** `GET /gateway` on the control socket: which gateway the process is of. */
export const gatewayDescription = z.object({
  publicUrl: z.string(),
  /** Not of a process of an older version. */
  generation: z.number().exactOptional(),
});
