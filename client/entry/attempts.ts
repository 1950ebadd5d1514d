import type { Duplex } from 'node:stream';
import { onAbort } from '../../base/deadline.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Egress } from '../egress/egress.ts';
import { toFailure } from '../errors/failure.ts';
import type { ClientEntry, TunnelRequest } from './entry.ts';

/** What can happen while a tunnel is being opened. */
export type OpeningEvent =
  | { readonly kind: 'opened'; readonly name: EntryName; readonly tunnel: Duplex }
  | { readonly kind: 'failed'; readonly name: EntryName; readonly failure: TunnelError }
  /** The request of the newest attempt has had no answer for a while, and can still get one. */
  | { readonly kind: 'silent'; readonly name: EntryName }
  /** The time that `wake` was called with is over. */
  | { readonly kind: 'due' }
  | { readonly kind: 'aborted' };

/** What the attempts share. */
export interface AttemptOptions {
  readonly load: (name: EntryName) => Promise<ClientEntry>;
  readonly egress: Egress;
  readonly signal: AbortSignal;
}

/** An answer takes longer only where the target is slow, or where something on the way has swallowed the request. */
const silentMs = 4000;

/** The attempts to open one tunnel, of which several can be under way, as a queue of what happens to them. */
export class Attempts {
  readonly #options: AttemptOptions;
  readonly #events: OpeningEvent[] = [];
  readonly #running = new Map<AbortController, EntryName>();
  readonly #stopListening: () => void;
  #notify: (() => void) | undefined;
  #silenceTimer: NodeJS.Timeout | undefined;
  #dueTimer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(options: AttemptOptions) {
    this.#options = options;
    this.#stopListening = onAbort(options.signal, () => {
      this.#stopTimers();
      this.#push({ kind: 'aborted' });
    });
  }

  /** Whether nothing will happen any more unless something is started. */
  get isIdle(): boolean {
    return this.#running.size === 0 && this.#events.length === 0 && this.#dueTimer === undefined;
  }

  /** Whether an attempt of this entry is under way, or its outcome was not taken from the queue. */
  isPending(name: EntryName): boolean {
    const isQueued = this.#events.some(
      (event) => event.kind !== 'silent' && 'name' in event && event.name === name,
    );
    return isQueued || [...this.#running.values()].includes(name);
  }

  /** Starts an attempt on a connection of its own. */
  start(name: EntryName, request: TunnelRequest): void {
    const abort = new AbortController();
    this.#running.set(abort, name);
    clearTimeout(this.#silenceTimer);
    void this.#open(name, request, abort);
  }

  async #open(name: EntryName, request: TunnelRequest, abort: AbortController): Promise<void> {
    const removeListener = onAbort(this.#options.signal, () => abort.abort());
    let event: OpeningEvent;
    try {
      const entry = await this.#options.load(name);
      const tunnel = await entry.open(request, this.#watched(name, abort), abort.signal);
      // It can be lost before there is an owner who listens.
      tunnel.on('error', () => {});
      event = { kind: 'opened', name, tunnel };
    } catch (error) {
      event = { kind: 'failed', name, failure: toFailure(error) };
    }
    removeListener();
    if (this.#isNewest(abort)) clearTimeout(this.#silenceTimer);
    this.#running.delete(abort);
    this.#push(event);
  }

  /** The egress, which starts the wait for an answer once the connection is there: a proxy's sign-in before can take its time. */
  #watched(name: EntryName, abort: AbortController): Egress {
    const { egress } = this.#options;
    return {
      name: egress.name,
      connect: async (gateway, signal) => {
        const socket = await egress.connect(gateway, signal);
        if (this.#isNewest(abort) && !this.#isOver) {
          clearTimeout(this.#silenceTimer);
          this.#silenceTimer = setTimeout(() => this.#push({ kind: 'silent', name }), silentMs);
        }
        return socket;
      },
    };
  }

  #isNewest(abort: AbortController): boolean {
    return [...this.#running.keys()].at(-1) === abort;
  }

  /** Makes a `due` event after this time. */
  wake(ms: number): void {
    clearTimeout(this.#dueTimer);
    this.#dueTimer = setTimeout(() => {
      this.#dueTimer = undefined;
      this.#push({ kind: 'due' });
    }, ms);
  }

  async next(): Promise<OpeningEvent> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) return event;
      await new Promise<void>((resolve) => (this.#notify = resolve));
    }
  }

  #push(event: OpeningEvent): void {
    if (!this.#isOver) {
      this.#events.push(event);
      this.#notify?.();
    } else if (event.kind === 'opened') event.tunnel.destroy();
  }

  /** Aborts those under way, and closes the tunnels that were not taken from the queue. */
  stop(): void {
    this.#isOver = true;
    this.#stopTimers();
    this.#stopListening();
    for (const abort of this.#running.keys()) abort.abort();
    for (const event of this.#events) if (event.kind === 'opened') event.tunnel.destroy();
  }

  #stopTimers(): void {
    clearTimeout(this.#silenceTimer);
    clearTimeout(this.#dueTimer);
    this.#dueTimer = undefined;
  }
}
