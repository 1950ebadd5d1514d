import type { IncomingMessage } from 'node:http';
import type { z } from 'zod';
import { withDeadline } from '../../base/deadline.ts';
import { TunnelError, isTunnelErrorCode } from '../../protocol/errors.ts';
import type { ProcessMetrics } from '../telemetry/metrics-aggregator.ts';
import type { Carried, PeerCarriers } from '../entry/http.ts';
import type { KillRequest, ListedSessions, PeersKilled, SessionView } from '../admin/control.ts';
import { instanceOf } from '../resume/instance-history.ts';
import type { InstanceHistory } from '../resume/instance-history.ts';
import type { DetachedScope } from '../policy/limits.ts';
import type { DetachedTunnel } from '../resume/displacement.ts';
import { tunnelNotFound } from '../resume/tunnel-locator.ts';
import type { TunnelOwner, TunnelHandle, TunnelLocator } from '../resume/tunnel-locator.ts';
import { requestJson } from './peer-client.ts';
import type { PeerResponse, PeerRequest } from './peer-client.ts';
import {
  detachedSessions,
  foundTunnel,
  killed,
  metricsSnapshot,
  refusalMessage,
  sessionViews,
  toOwnerMessage,
} from './peer-messages.ts';
import { passRequest } from './handoff/http-carrier.ts';
import { instanceNameLength } from './runtime-directory.ts';
import type { RuntimeDirectory } from './runtime-directory.ts';
import { ConnectionHandoff, unreachable } from './handoff/sender.ts';

const requestMs = 3000;
/** Metrics are the last ones of a process that has not answered by then: whatever collects them does not wait for it. */
const metricsMs = 400;
/** A process that ends waits for it. */
const finalMetricsMs = 1000;

/** The response of one of the processes; undefined when it does not answer, or refuses. */
interface NamedResponse {
  readonly name: string;
  readonly response: PeerResponse | undefined;
}

/** A notice of a process to all the others: see `InstanceSource`. */
export type PeerNotice = 'succeeded' | 'stop';

/** The other processes of this gateway on this machine: those that it has taken over from, and one that takes over. */
export class Peers implements TunnelLocator, PeerCarriers {
  readonly handoff = new ConnectionHandoff();
  readonly #directory: RuntimeDirectory;
  readonly #name: string;
  #history: InstanceHistory | undefined;
  #describe = (instance: string): string => `process ${instance}`;

  /** `name`: the instance name of this process. */
  constructor(directory: RuntimeDirectory, name: string) {
    this.#directory = directory;
    this.#name = name;
  }

  /**
   * The tunnel of another process, which the `sid` names. Rejects with the refusal of that process, with `TUNNEL_GONE`
   * when it has ended, and with `TUNNEL_UNREACHABLE` when it does not answer, or is not one of this gateway.
   */
  async find(sid: string, owner: TunnelOwner): Promise<TunnelHandle> {
    const name = instanceOf(sid);
    const socket = this.#directory.socketOf(name);
    if (socket === undefined || name === this.#name) throw tunnelNotFound();
    const response = await this.#request(socket, '/find', { sid, holder: toOwnerMessage(owner) });
    if (response.status !== 200) throw refusalOf(response.body);
    const tunnel = foundTunnel.parse(response.body);
    const { sessionId } = tunnel;
    return {
      ...tunnel,
      revoke: () => void this.#request(socket, '/revoke', { sessionId }).catch(() => {}),
      prepare: (offer) => this.handoff.prepare(socket, offer, owner),
    };
  }

  /** The sessions of all of them, without those of a process that does not answer. */
  async sessions(): Promise<readonly SessionView[]> {
    return (await this.listSessions()).sessions;
  }

  async listSessions(): Promise<ListedSessions> {
    const responses = await this.#requestAll('/sessions');
    const lists = responses.map(({ name, response }) => ({ name, found: readBody(sessionViews, response) }));
    return {
      sessions: lists.flatMap(({ found }) => found ?? []),
      silent: lists.flatMap(({ name, found }) => (found === undefined ? [this.#describe(name)] : [])),
    };
  }

  /** Ends their sessions that match. Revokes nothing. */
  async kill(request: KillRequest): Promise<PeersKilled> {
    const responses = await this.#requestAll('/kill', request);
    const counts = responses.map(({ name, response }) => ({
      name,
      ended: readBody(killed, response)?.ended,
    }));
    const silent = counts.filter(({ ended }) => ended === undefined);
    return {
      ended: counts.reduce<number>((sum, { ended = 0 }) => sum + ended, 0),
      silent: silent.length,
      processes: silent.map(({ name }) => this.#describe(name)),
    };
  }

  /** Has them end the tunnels that the settings of this text no longer allow. Those of an older version do not. */
  async recheck(text: string): Promise<void> {
    await this.#requestAll('/recheck', { text });
  }

  /** Has it know which processes were ones of this gateway, and adds to them itself and those that are there. */
  async rememberIn(history: InstanceHistory): Promise<void> {
    this.#history = history;
    const others = await this.#directory.others(this.#name);
    await history.remember([...others.map((socket) => this.#directory.nameOf(socket)), this.#name]);
  }

  /** Has messages for people name the processes by more than their instance names. */
  describeBy(describe: (instance: string) => string): void {
    this.#describe = describe;
  }

  /** Their detached tunnels of a scope; processes that do not answer, or are too old to understand, have none. */
  async detached(scope: DetachedScope): Promise<readonly DetachedTunnel[]> {
    const sockets = await this.#directory.others(this.#name);
    const request = { path: '/detached', body: scope, timeoutMs: requestMs };
    const responses = await this.#requestEach(sockets, request);
    return responses.flatMap(({ response }, at) =>
      (readBody(detachedSessions, response) ?? []).map(({ sessionId, since }) => ({
        sessionId,
        since,
        displace: () => void this.#request(sockets[at]!, '/displace', { sessionId }).catch(() => {}),
      })),
    );
  }

  /** Resolves when all of them have done what the notice asks for, or `limitMs` is over. */
  async broadcast(notice: PeerNotice, limitMs = requestMs): Promise<void> {
    await this.#requestAll(`/${notice}`, { by: this.#name }, limitMs);
  }

  /** Sends what this process has counted, before it ends, to the process that answers for the gateway. */
  async sendFinalMetrics(metrics: ProcessMetrics): Promise<void> {
    await this.#requestAll('/last-figures', metrics, finalMetricsMs);
  }

  /**
   * Requests the metrics of the others, and calls `onAnswer` with each answer: those that come within a moment before this
   * resolves, later ones after it. Resolves to the names of all.
   */
  async metrics(onAnswer: (metrics: ProcessMetrics) => void): Promise<ReadonlySet<string>> {
    const sockets = await this.#directory.others(this.#name);
    const request = { path: '/figures', timeoutMs: requestMs };
    const answered = this.#requestEach(sockets, request, ({ name, response }) => {
      const figures = readBody(metricsSnapshot, response);
      if (figures !== undefined) onAnswer({ instance: name, figures });
    });
    await withDeadline(undefined, metricsMs, () => answered).catch(() => {});
    return new Set(sockets.map((socket) => this.#directory.nameOf(socket)));
  }

  /** Passes a request to the process that has its carrier, which the id names. Throws `TUNNEL_GONE` for an id that names none. */
  pass(id: string, request: IncomingMessage, carried: Carried): void {
    const name = id.slice(0, instanceNameLength);
    const socket = this.#directory.socketOf(name);
    if (socket === undefined || name === this.#name) throw tunnelNotFound();
    passRequest(socket, request, carried);
  }

  /** Undefined for each process that does not answer, or refuses. */
  async #requestAll(path: string, body?: object, timeoutMs = requestMs): Promise<readonly NamedResponse[]> {
    const sockets = await this.#directory.others(this.#name);
    return this.#requestEach(sockets, { path, timeoutMs, ...(body && { body }) });
  }

  #requestEach(
    sockets: readonly string[],
    request: PeerRequest,
    onResponse?: (response: NamedResponse) => void,
  ): Promise<readonly NamedResponse[]> {
    return Promise.all(
      sockets.map(async (socket) => {
        const response = await requestJson(socket, request).catch(() => undefined);
        const isRefused = response !== undefined && response.status >= 300;
        const named = { name: this.#directory.nameOf(socket), response: isRefused ? undefined : response };
        onResponse?.(named);
        return named;
      }),
    );
  }

  async #request(socket: string, path: string, body: object): Promise<PeerResponse> {
    try {
      return await requestJson(socket, { path, body, timeoutMs: requestMs });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ECONNREFUSED') await this.#directory.remove(socket);
      if (code === 'ECONNREFUSED' || code === 'ENOENT')
        throw (await this.#history?.refusal(this.#directory.nameOf(socket))) ?? tunnelNotFound();
      throw unreachable(cause);
    }
  }
}

/** This process's tunnels by their `sid`, or else those of the others. */
export function locateTunnel(name: string, own: TunnelLocator, others: TunnelLocator): TunnelLocator {
  return {
    find: (sid, owner) => (sid.startsWith(`${name}.`) ? own : others).find(sid, owner),
  };
}

/** Undefined for a process that does not answer, and for a response that cannot be read. */
function readBody<T>(schema: z.ZodType<T>, response: PeerResponse | undefined): T | undefined {
  return response && schema.safeParse(response.body).data;
}

function refusalOf(body: unknown): TunnelError {
  const { data } = refusalMessage.safeParse(body);
  return data !== undefined && isTunnelErrorCode(data.code)
    ? new TunnelError(data.code, data.detail)
    : unreachable();
}
