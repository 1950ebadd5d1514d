import type { Figures } from '../telemetry/metrics.ts';
import type { KillRequest } from '../admin/control.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import type { SessionRecord, Sessions } from '../session/sessions.ts';
import type { InstanceSource } from './peer-api.ts';

/** What of the gateway this needs. */
export interface Supersedable {
  readonly sessions: Sessions;
  readonly resumableTunnels: ResumableTunnels;
  readonly metrics: { snapshot(): Promise<Figures> };
  end(killing: KillRequest): number;
  stop(): void;
  onSuperseded(): void;
  empty(): Promise<void>;
}

/** What other processes may have this one do, and who comes after it. */
export class ProcessLifecycle implements InstanceSource {
  readonly #gateway: Supersedable;
  readonly #generation: string;
  #next = Promise.withResolvers<void>();
  #isSucceeded = false;

  /** `generation`: the name of the process that leads ours, which may be ourselves. */
  constructor(gateway: Supersedable, generation: string) {
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

  get relays(): ResumableTunnels {
    return this.#gateway.resumableTunnels;
  }

  sessions(): Iterable<SessionRecord> {
    return this.#gateway.sessions.records();
  }

  async kill(killing: KillRequest): Promise<number> {
    return this.#gateway.end(killing);
  }

  metrics(): Promise<Figures> {
    return this.#gateway.metrics.snapshot();
  }

  onSuperseded(by: string | undefined): void {
    // Our own leader tells everybody that it has taken over.
    if (by === this.#generation) return;
    this.#isSucceeded = true;
    this.#gateway.onSuperseded();
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  async stop(by: string | undefined): Promise<void> {
    // Who says so may be the one that we are about to take over from.
    if (!this.#isSucceeded && by !== this.#generation) return;
    this.#gateway.stop();
    if (!this.#isSucceeded) this.#gateway.resumableTunnels.requestReconnect();
    await this.orElse(this.#gateway.empty());
  }

  /** Resolves with `what`, or when another process has taken over. */
  async orElse(what: Promise<void>): Promise<void> {
    await Promise.race([what, this.#next.promise]);
  }
}
