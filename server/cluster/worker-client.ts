import { requestJson } from './peer-client.ts';
import type { PeerResponse } from './peer-client.ts';
import { reloadRefusal } from './peer-messages.ts';

const requestMs = 5000;

/** A worker that listens. */
export interface LiveWorker {
  readonly number: number;
  /** Its name among the processes of the gateway. */
  readonly instance: string;
}

export interface WorkerClientOptions {
  /** The path of the socket of an instance. */
  readonly socketOf: (instance: string) => string;
  /** The workers that listen now. */
  readonly listening: () => readonly LiveWorker[];
}

/** The supervisor's side of what `workerRoutes` answers. */
export class WorkerClient {
  readonly #options: WorkerClientOptions;

  constructor(options: WorkerClientOptions) {
    this.#options = options;
  }

  /** All of them continue in a new audit file. */
  async reopenAudit(): Promise<void> {
    await this.#requestAll('/reopen-audit', {});
  }

  /** All of them accept no new connections, and end with their last tunnels. */
  async stopAccepting(): Promise<void> {
    await this.#requestAll('/yield', {});
  }

  /**
   * Stops workers in the name of their supervisor; their tunnels have as long as those of a gateway that stops. Resolves
   * when they have ended, or after `limitMs`.
   */
  async stop(instances: readonly string[], by: string, limitMs: number): Promise<void> {
    await Promise.all(
      instances.map((instance) => this.#request(instance, '/stop', { by }, limitMs).catch(() => undefined)),
    );
  }

  /** Has all of them read settings. Resolves to what puts them in place everywhere; rejects when one cannot use them. */
  async prepare(text: string): Promise<() => Promise<void>> {
    const answers = await this.#requestAll('/reload', { text });
    const refusals = answers.flatMap(({ number, response }) =>
      response?.status === 200 ? [] : [`worker ${number}: ${reasonOf(response)}`],
    );
    if (refusals.length === 0)
      return async () => void (await this.#requestAll('/reload', { step: 'commit' }));
    await this.#requestAll('/reload', { step: 'drop' });
    throw new Error(refusals[0]);
  }

  #requestAll(
    path: string,
    body: object,
  ): Promise<readonly { readonly number: number; readonly response: PeerResponse | undefined }[]> {
    return Promise.all(
      this.#options.listening().map(async ({ number, instance }) => ({
        number,
        response: await this.#request(instance, path, body).catch(() => undefined),
      })),
    );
  }

  #request(instance: string, path: string, body?: object, timeoutMs = requestMs): Promise<PeerResponse> {
    return requestJson(this.#options.socketOf(instance), { path, timeoutMs, ...(body && { body }) });
  }
}

/** Why a worker has not prepared the settings. */
function reasonOf(response: PeerResponse | undefined): string {
  if (response === undefined) return 'it does not answer';
  return reloadRefusal.safeParse(response.body).data?.detail ?? `it answers ${response.status}`;
}
