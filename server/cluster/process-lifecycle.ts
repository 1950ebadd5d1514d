import type { Figures } from '../telemetry/metrics.ts';
import type { Killing } from '../admin/control.ts';
import type { Relays } from '../resume/resumable-tunnels.ts';
import type { SessionRecord, Sessions } from '../session/sessions.ts';
import type { InstanceSource } from './peer-api.ts';

/** What of the gateway this needs. */
export interface Succeedable {
  readonly sessions: Sessions;
  readonly relays: Relays;
  readonly metrics: { figures(): Promise<Figures> };
  end(killing: Killing): number;
  stop(): void;
  succeeded(): void;
  empty(): Promise<void>;
}

/** What other processes may have this one do, and who comes after it. */
export class Succession implements InstanceSource {
  readonly #gateway: Succeedable;
  readonly #generation: string;
  #next = Promise.withResolvers<void>();
  #isSucceeded = false;

  /** `generation`: the name of the process that leads ours, which may be ourselves. */
  constructor(gateway: Succeedable, generation: string) {
    this.#gateway = gateway;
    this.#generation = generation;
  }

  /** Whether somebody has taken over from us and those whom our leader leads. */
  get isSucceeded(): boolean {
    return this.#isSucceeded;
  }

  get live(): Sessions {
    return this.#gateway.sessions;
  }

  get relays(): Relays {
    return this.#gateway.relays;
  }

  sessions(): Iterable<SessionRecord> {
    return this.#gateway.sessions.records();
  }

  async kill(killing: Killing): Promise<number> {
    return this.#gateway.end(killing);
  }

  figures(): Promise<Figures> {
    return this.#gateway.metrics.figures();
  }

  succeeded(by: string | undefined): void {
    // Our own leader tells everybody that it has taken over.
    if (by === this.#generation) return;
    this.#isSucceeded = true;
    this.#gateway.succeeded();
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  async stop(by: string | undefined): Promise<void> {
    // Who says so may be the one that we are about to take over from.
    if (!this.#isSucceeded && by !== this.#generation) return;
    this.#gateway.stop();
    if (!this.#isSucceeded) this.#gateway.relays.askToMove();
    await this.orElse(this.#gateway.empty());
  }

  /** Resolves with `what`, or when another process has taken over. */
  async orElse(what: Promise<void>): Promise<void> {
    await Promise.race([what, this.#next.promise]);
  }
}
