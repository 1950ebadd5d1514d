import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { TunnelError, isTunnelErrorCode } from '../../protocol/errors.ts';
import type { ProcessMetrics } from '../telemetry/metrics-aggregator.ts';
import type { Figures } from '../telemetry/metrics.ts';
import type { Carried, PeerCarriers } from '../entry/http.ts';
import type { KillRequest, SessionView } from '../admin/control.ts';
import { tunnelNotFound } from '../resume/tunnel-locator.ts';
import type { TunnelOwner, TunnelHandle, TunnelLocator } from '../resume/tunnel-locator.ts';
import { requestJson } from './peer-client.ts';
import type { PeerResponse, PeerRequest } from './peer-client.ts';
import { passCarried } from './handoff/http-carrier.ts';
import { instanceNameLength } from './runtime-directory.ts';
import type { RuntimeDirectory } from './runtime-directory.ts';
import { ConnectionHandoff, unreachable } from './handoff/sender.ts';

const askMs = 3000;
/** Whoever ends waits for it. */
const lastFiguresMs = 1000;

const target = z.object({ host: z.string(), port: z.number() });
const found = z.object({ sessionId: z.string(), target, address: target });

/** What a process says to all the others: see `InstanceSource`. */
export type PeerNotice = 'succeeded' | 'stop';

/** The other processes of this gateway on this machine: those that it has taken over from, and one that takes over. */
export class Peers implements TunnelLocator, PeerCarriers {
  readonly handoff = new ConnectionHandoff();
  readonly #folder: RuntimeDirectory;
  readonly #name: string;

  constructor(folder: RuntimeDirectory, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  /** The tunnel of another process; the `sid` says whose. Rejects with `TUNNEL_UNREACHABLE` when that does not answer. */
  async find(sid: string, holder: TunnelOwner): Promise<TunnelHandle> {
    const [name = ''] = sid.split('.', 1);
    const socket = this.#folder.socketOf(name);
    if (socket === undefined || name === this.#name) throw tunnelNotFound();
    const { issuer, subject, keyThumbprint } = holder;
    const answer = await this.#ask(socket, '/find', { sid, holder: { issuer, subject, keyThumbprint } });
    if (answer.status !== 200) throw refusalOf(answer.body);
    const tunnel = found.parse(answer.body);
    const { sessionId } = tunnel;
    return {
      ...tunnel,
      revoke: () => void this.#ask(socket, '/revoke', { sessionId }).catch(() => {}),
      prepare: (offer) => this.handoff.prepare(socket, offer, holder),
    };
  }

  /** Their sessions; those of a process that does not answer are left out. */
  async sessions(): Promise<readonly SessionView[]> {
    const answers = await this.#askAll('/sessions');
    return answers.flatMap((answer) => (answer === undefined ? [] : (answer.body as SessionView[])));
  }

  /** Ends their sessions that match. Revokes nothing. */
  async kill(killing: KillRequest): Promise<{ readonly ended: number; readonly silent: number }> {
    const answers = await this.#askAll('/kill', killing);
    const counts = answers.map((answer) => (answer?.body as { ended: number } | undefined)?.ended);
    return {
      ended: counts.reduce<number>((sum, count) => sum + (count ?? 0), 0),
      silent: counts.filter((count) => count === undefined).length,
    };
  }

  /** Resolves when all have heard, and done what is to be waited for, or `limitMs` is over. */
  async broadcast(notice: PeerNotice, limitMs = askMs): Promise<void> {
    await this.#askAll(`/${notice}`, { by: this.#name }, limitMs);
  }

  /** Tells who leads what this process has counted, before it ends. */
  async sendFinalMetrics(said: ProcessMetrics): Promise<void> {
    await this.#askAll('/last-figures', said, lastFiguresMs);
  }

  /** What the others have counted, of those who answer, and the names of all. */
  async metrics(): Promise<{
    readonly answers: readonly { readonly instance: string; readonly figures: Figures }[];
    readonly living: ReadonlySet<string>;
  }> {
    const sockets = await this.#folder.others(this.#name);
    const answers = await this.#askThese(sockets, { path: '/figures', timeoutMs: askMs });
    const names = sockets.map((socket) => this.#folder.nameOf(socket));
    return {
      answers: answers.flatMap((answer, at) =>
        answer === undefined ? [] : [{ instance: names[at]!, figures: answer.body as Figures }],
      ),
      living: new Set(names),
    };
  }

  /** The carrier of another process; its id says whose. Throws `TUNNEL_GONE` for an id that is of none. */
  pass(id: string, request: IncomingMessage, carried: Carried): void {
    const name = id.slice(0, instanceNameLength);
    const socket = this.#folder.socketOf(name);
    if (socket === undefined || name === this.#name) throw tunnelNotFound();
    passCarried(socket, request, carried);
  }

  /** Undefined for who does not answer. */
  async #askAll(
    path: string,
    body?: object,
    timeoutMs = askMs,
  ): Promise<readonly (PeerResponse | undefined)[]> {
    const sockets = await this.#folder.others(this.#name);
    return this.#askThese(sockets, { path, timeoutMs, ...(body && { body }) });
  }

  #askThese(
    sockets: readonly string[],
    question: PeerRequest,
  ): Promise<readonly (PeerResponse | undefined)[]> {
    return Promise.all(
      sockets.map(async (socket) => {
        const answer = await requestJson(socket, question).catch(() => undefined);
        return answer !== undefined && answer.status < 300 ? answer : undefined;
      }),
    );
  }

  async #ask(socket: string, path: string, body: object): Promise<PeerResponse> {
    try {
      return await requestJson(socket, { path, body, timeoutMs: askMs });
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ECONNREFUSED') await this.#folder.remove(socket);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') throw tunnelNotFound();
      throw unreachable(cause);
    }
  }
}

/** This process's tunnels by their `sid`, or else those of the others. */
export function locateTunnel(name: string, own: TunnelLocator, others: TunnelLocator): TunnelLocator {
  return {
    find: (sid, holder) => (sid.startsWith(`${name}.`) ? own : others).find(sid, holder),
  };
}

function refusalOf(body: unknown): TunnelError {
  const { code, detail } = body as { code?: unknown; detail?: unknown };
  return isTunnelErrorCode(code) && typeof detail === 'string'
    ? new TunnelError(code, detail)
    : unreachable();
}
