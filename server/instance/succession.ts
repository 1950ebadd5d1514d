import type { Killing } from '../listen/control.ts';
import type { Relays } from '../tunnel/relays.ts';
import type { SessionRecord, Sessions } from '../tunnel/sessions.ts';
import type { InstanceSource } from './instance-app.ts';

/** What of the gateway this needs. */
export interface Succeedable {
  readonly sessions: Sessions;
  readonly relays: Relays;
  end(killing: Killing): number;
  stop(): void;
  succeeded(): void;
  empty(): Promise<void>;
}

/** What other processes may have this one do, and who comes after it. */
export class Succession implements InstanceSource {
  readonly #gateway: Succeedable;
  #next = Promise.withResolvers<void>();
  #isSucceeded = false;

  constructor(gateway: Succeedable) {
    this.#gateway = gateway;
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

  succeeded(): void {
    this.#isSucceeded = true;
    this.#gateway.succeeded();
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  async stop(): Promise<void> {
    // Who says so may be the one that we are about to take over from.
    if (!this.#isSucceeded) return;
    this.#gateway.stop();
    await this.orElse(this.#gateway.empty());
  }

  /** Resolves with `what`, or when another process has taken over. */
  async orElse(what: Promise<void>): Promise<void> {
    await Promise.race([what, this.#next.promise]);
  }
}
