import type { Duplex } from 'node:stream';
import type { EntryName } from '../../protocol/entries.ts';
import { entryFacts } from '../../protocol/entries.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import { Patience } from '../http/patience.ts';
import { isOfEntry, failureKind } from '../http/refusal.ts';
import { Attempts } from './attempts.ts';
import type { OpeningEvent } from './attempts.ts';
import type { ClientEntry, TunnelRequest } from './entry.ts';
import type { EntryCache } from './entry-cache.ts';
import { EntryPlan } from './entry-plan.ts';

/** Loads an entry by name. Loading costs time, so only entries that are tried are loaded. */
export type LoadEntry = (name: EntryName) => Promise<ClientEntry>;

/** How `openTunnel` chooses among the entries. */
export interface Choice {
  readonly load: LoadEntry;
  /** The only entry to try. */
  readonly via?: EntryName;
  readonly memory: EntryCache;
  readonly signal: AbortSignal;
  /** The time for requests that are lost, where it has begun before; absent: it begins now. */
  readonly patience?: Patience;
}

const loaders: Readonly<Record<EntryName, () => Promise<ClientEntry>>> = {
  relay: async () => (await import('./resumable.ts')).relay,
  websocket: async () => (await import('./websocket.ts')).websocket,
  'connect-tcp': async () => (await import('./connect-tcp.ts')).connectTcp,
  connect: async () => (await import('./connect.ts')).connect,
  http: async () => (await import('./resumable.ts')).http,
};

/** Imports an entry when it is needed. */
export const loadEntry: LoadEntry = (name) => loaders[name]();

/** A better entry that was lost before has this long to show that it gets through now, when another one does. */
const confirmMs = 2000;
/** A tunnel whose better entry was lost, and not refused, tries that one again after this time. */
const soonMs = 10_000;

/**
 * Opens the tunnel by the entry that worked last in this network, else in the order of preference. An entry that is
 * refused is followed by the next one at once. A request that is lost is made again, for a few seconds (`Patience`,
 * `EntryPlan`); a lesser entry that gets through then is used only if the better one is lost once more. When none
 * succeeds, the first failure in the order of preference is thrown, naming those tried. The caller owns the tunnel.
 */
export async function openTunnel(request: TunnelRequest, egress: Egress, choice: Choice): Promise<Duplex> {
  const attempts = new Attempts({ load: choice.load, egress, signal: choice.signal });
  try {
    return await new Opening(request, choice, attempts).run();
  } finally {
    attempts.stop();
  }
}

type Opened = Extract<OpeningEvent, { kind: 'opened' }>;

/** One run of `openTunnel`. */
class Opening {
  readonly #request: TunnelRequest;
  readonly #choice: Choice;
  readonly #attempts: Attempts;
  readonly #plan: EntryPlan;
  readonly #patience: Patience;
  #last: TunnelError = new ClientError('GATEWAY_TIMEOUT', 'there was no time to reach the gateway');

  constructor(request: TunnelRequest, choice: Choice, attempts: Attempts) {
    const { via, memory, patience = new Patience() } = choice;
    this.#request = request;
    this.#choice = choice;
    this.#attempts = attempts;
    this.#patience = patience;
    this.#plan = new EntryPlan({
      via,
      recalled: via === undefined ? memory.recall(request.gateway) : undefined,
      isBound: request.createProof !== undefined,
    });
  }

  async run(): Promise<Duplex> {
    this.#startNext(true);
    for (;;) {
      const event = await this.#attempts.next();
      if (event.kind === 'opened') {
        const tunnel = await this.#finish(event);
        if (!tunnel.destroyed) return tunnel;
        this.#failed(event.name, lostAgain(this.#request.gateway));
      } else if (event.kind === 'failed') this.#failed(event.name, event.failure);
      else if (event.kind === 'aborted') this.#throwIfIdle(this.#last);
      else {
        if (event.kind === 'silent') this.#plan.silent(event.name);
        // A repetition that was put off is made, though its time may be over by a little.
        this.#startNext(event.kind === 'due' || this.#patience.isLeft);
        this.#throwIfIdle(this.#plan.failure(this.#last));
      }
    }
  }

  /** Starts the next attempt, or schedules it. Throws when there is no use in another one. */
  #failed(name: EntryName, failure: TunnelError): void {
    const { via, signal } = this.#choice;
    this.#last = failure;
    if (signal.aborted) throw failure;
    const kind = failureKind(failure);
    if (kind === 'final') {
      // A limit can be due to the attempt before, which is still under way.
      if (failure.facts.status === 429) this.#throwIfIdle(failure);
      else throw failure;
    } else if (kind === 'refused') {
      if (via !== undefined) throw failure;
      this.#plan.refused(name, failure);
      this.#startNext(this.#patience.isLeft);
      this.#throwIfIdle(this.#plan.failure(failure));
    } else this.#lost(name, failure);
  }

  #lost(name: EntryName, failure: TunnelError): void {
    this.#plan.lost(name, failure);
    const pauseMs = this.#patience.pauseMs(failure);
    if (pauseMs !== undefined) return this.#attempts.wake(pauseMs);
    // Where no request gets to the gateway, no other entry will.
    if (isOfEntry(failure)) this.#startNext(false);
    this.#throwIfIdle(isOfEntry(failure) ? this.#plan.failure(failure) : failure);
  }

  #startNext(isTimeLeft: boolean): void {
    const name = this.#plan.next(isTimeLeft);
    if (name !== undefined) this.#start(name);
  }

  #start(name: EntryName): void {
    const { later } = this.#request;
    const isProvisional =
      this.#plan.lostBefore(name) !== undefined ||
      (name !== 'relay' && this.#choice.memory.isProvisional(this.#request.gateway));
    this.#attempts.start(name, {
      ...this.#request,
      isPinned: this.#choice.via !== undefined,
      ...(later && isProvisional && { later: { betterAfterMs: soonMs, ...later } }),
    });
  }

  #throwIfIdle(failure: TunnelError): void {
    if (this.#attempts.isIdle) throw failure;
  }

  /** Remembers what the outcome shows, and resolves to the tunnel. */
  async #finish(first: Opened): Promise<Duplex> {
    if (this.#choice.via !== undefined) return this.#watched(first);
    const opened = await this.#confirm(first);
    if (opened.tunnel.destroyed) return opened.tunnel;
    const evidence = this.#plan.evidenceFor(opened.name);
    if (evidence !== undefined) this.#choice.memory.keep(this.#request.gateway, opened.name, evidence);
    return this.#watched(opened);
  }

  /** Tries the better entry once more, if it was only lost: now that something gets through, it can too. */
  async #confirm(opened: Opened): Promise<Opened> {
    const better = this.#plan.lostBefore(opened.name);
    if (better === undefined) return opened;
    this.#start(better);
    this.#attempts.wake(confirmMs);
    while (this.#attempts.isPending(better)) {
      const event = await this.#attempts.next();
      if (event.kind === 'due' || event.kind === 'aborted') break;
      if (event.kind === 'failed') {
        if (failureKind(event.failure) === 'refused') this.#plan.refused(event.name, event.failure);
      } else if (event.kind === 'opened') {
        const isBetter = event.name === better;
        (isBetter ? opened : event).tunnel.destroy();
        if (isBetter) return event;
      }
    }
    return opened;
  }

  /** For `postern status`: a resumable tunnel tells of itself. */
  #watched({ name, tunnel }: Opened): Duplex {
    const watch = this.#request.later?.watch;
    if (watch === undefined || entryFacts(name).resumable) return tunnel;
    tunnel.once('close', () => watch.ended());
    // ssh's first bytes need not wait for it.
    setImmediate(() => {
      if (!tunnel.destroyed) watch.opened({ resumable: false });
    });
    return tunnel;
  }
}

function lostAgain({ host }: URL): ClientError {
  return new ClientError('HTTP_UNEXPECTED', `${host} closed the connection at once`, {
    interruption: { how: 'lost' },
  });
}
