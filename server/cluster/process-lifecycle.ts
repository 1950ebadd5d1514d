import type { MetricsSnapshot } from '../telemetry/metrics.ts';
import type { KillRequest, KillResult } from '../admin/control.ts';
import type { ResumableTunnels } from '../resume/resumable-tunnels.ts';
import type { SessionRecord, Sessions } from '../session/sessions.ts';
import type { InstanceSource } from './peer-api.ts';

/** The part of the gateway that this needs. */
export interface Supersedable {
  readonly sessions: Sessions;
  readonly resumableTunnels: ResumableTunnels;
  readonly metrics: { snapshot(): Promise<MetricsSnapshot> };
  end(request: KillRequest): number;
  stop(): void;
  onSuperseded(): void;
  empty(): Promise<void>;
}

/** This process as the others see it: the requests that it answers, and whether another one has taken over. */
export class ProcessLifecycle implements InstanceSource {
  readonly #gateway: Supersedable;
  readonly #generation: string;
  #superseded = Promise.withResolvers<void>();
  #isSuperseded = false;

  /** `generation`: the name of our supervisor, or our own where there is none. */
  constructor(gateway: Supersedable, generation: string) {
    this.#gateway = gateway;
    this.#generation = generation;
  }

  /** Whether a process has taken over from us and the other processes of our generation. */
  get isSuperseded(): boolean {
    return this.#isSuperseded;
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

  async kill(request: KillRequest): Promise<KillResult> {
    return { ended: this.#gateway.end(request) };
  }

  metrics(): Promise<MetricsSnapshot> {
    return this.#gateway.metrics.snapshot();
  }

  onSuperseded(by: string | undefined): void {
    // Our own supervisor tells every process that it has taken over.
    if (by === this.#generation) return;
    this.#isSuperseded = true;
    this.#gateway.onSuperseded();
    this.#superseded.resolve();
    this.#superseded = Promise.withResolvers();
  }

  async stop(by: string | undefined): Promise<void> {
    // The sender can be the process that we are about to take over from.
    if (!this.#isSuperseded && by !== this.#generation) return;
    this.#gateway.stop();
    if (!this.#isSuperseded) this.#gateway.resumableTunnels.requestReconnect();
    await this.orElse(this.#gateway.empty());
  }

  /** Resolves with `work`, or when another process has taken over. */
  async orElse(work: Promise<void>): Promise<void> {
    await Promise.race([work, this.#superseded.promise]);
  }
}
