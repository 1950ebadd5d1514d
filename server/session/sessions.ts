import type { EndReason } from '../../protocol/end-reason.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import type { CarrierEnd } from '../../stream/carrier.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Grant } from '../policy/policy.ts';
import type { BridgeEnd } from '../../stream/bridge.ts';
import type { PendingRequest } from './offer.ts';

/** How a session ended: how its tunnel ended, the code of its refusal, or the reason for which the gateway ended it. */
export type SessionEnd = BridgeEnd | TunnelErrorCode | EndReason | 'CLIENT_GONE' | 'RESUMED';

/**
 * All that is known of one offer. What is not known yet is absent, and is added to this very object later. Times are
 * milliseconds since the epoch.
 */
export interface SessionRecord {
  readonly id: string;
  readonly entry: string;
  readonly requested: string;
  readonly remoteAddress: string;
  readonly offeredAt: number;
  readonly principal?: Principal;
  readonly grant?: Grant;
  /** The address that was dialled. */
  readonly dialled?: Target;
  /** When the first byte could pass. */
  readonly openedAt?: number;
  /** The time since which a resumable tunnel has no connection. */
  readonly detachedAt?: number | undefined;
  /** How often a resumable tunnel was resumed. */
  readonly resumes: number;
  readonly dialMs?: number;
  readonly endedAt?: number;
  readonly end?: SessionEnd;
  /** For the log and the audit, never for the caller: the cause of a refusal, or the reason for which a tunnel was ended. */
  readonly reason?: string;
  readonly bytesFromClient: number;
  readonly bytesFromTarget: number;
}

/** Called for every session. None of these is allowed to throw. */
export interface SessionObserver {
  /** Resolves when the record is safe; a rejection refuses the tunnel. Called before the first byte can pass. */
  opening?(record: SessionRecord): Promise<void>;
  /** A target was reached, or could not be. */
  dialled?(record: SessionRecord, dial: DialResult): void;
  opened?(record: SessionRecord): void;
  /** A resumable tunnel has lost its connection and waits to be resumed. */
  detached?(record: SessionRecord, how: CarrierEnd['how']): void;
  /** A resumable tunnel was resumed on another connection. */
  resumed?(record: SessionRecord, resume: Resume): void;
  /** Called once for every offer, refused ones too. */
  ended(record: SessionRecord): void;
}

/** How a dial ended, and after how many milliseconds. `code`: `OK`, or why it failed. */
export interface DialResult {
  readonly code: 'OK' | TunnelErrorCode | 'CLIENT_GONE' | EndReason;
  readonly dialMs: number;
}

/** How a resumable tunnel was resumed. */
export interface Resume {
  /** The id of the request. */
  readonly requestId: string;
  readonly remoteAddress: string;
  /** Why the client resumed, as it says. */
  readonly cause: string;
  /** Whether there was no connection when the new one came. */
  readonly wasDetached: boolean;
  /** How long there was none, in milliseconds. */
  readonly awayMs: number;
  /** How many bytes the gateway had to send again. */
  readonly replayedBytes: number;
}

/** The part of an offer that its record begins with. */
export type SessionOrigin = Pick<PendingRequest, 'id' | 'entry' | 'requested' | 'remoteAddress'>;

/** Counts a tunnel with a connection, and without one. */
export interface ConnectionCount {
  detach(): void;
  attach(remoteAddress: string): void;
}

/** One offer, from its arrival to its end. */
export interface Session {
  readonly record: SessionRecord;
  /** Aborted by expiry, revocation, kill and stop; the reason is an `EndReason`. */
  readonly signal: AbortSignal;
  /** Why it was aborted, for the log and the audit. */
  readonly why: string | undefined;
  /** Its tunnel counts among the detached ones while it has no connection. */
  countedBy(count: ConnectionCount): void;
  identified(principal: Principal): void;
  granted(grant: Grant): void;
  dialled(address: Target, dialMs: number): void;
  notDialled(code: Exclude<DialResult['code'], 'OK'>, dialMs: number): void;
  /** Rejects with `AUDIT_UNAVAILABLE` when the opening cannot be recorded. */
  opening(): Promise<void>;
  opened(): void;
  detached(how: CarrierEnd['how']): void;
  resumed(resume: Omit<Resume, 'awayMs' | 'wasDetached'>): void;
  /** Aborts the tunnel; its bridge then ends. `why` is for the log and the audit. */
  abort(reason: EndReason, why?: string): void;
  /** The only way out; calls after the first change nothing. */
  end(end: SessionEnd, more?: { bytesFromClient?: number; bytesFromTarget?: number; reason?: string }): void;
}

/** The sessions of this process, and their observers. */
export class Sessions {
  readonly #observers: readonly SessionObserver[];
  readonly #live = new Map<string, LiveSession>();
  #onEmpty: (() => void)[] = [];
  readonly #remove = (id: string): void => {
    this.#live.delete(id);
    if (this.#live.size > 0) return;
    const waiting = this.#onEmpty;
    this.#onEmpty = [];
    for (const resolve of waiting) resolve();
  };

  constructor(observers: readonly SessionObserver[]) {
    this.#observers = observers;
  }

  get count(): number {
    return this.#live.size;
  }

  *records(): Generator<SessionRecord> {
    for (const session of this.#live.values()) yield session.record;
  }

  find(id: string): Session | undefined {
    return this.#live.get(id);
  }

  begin(offer: SessionOrigin): Session {
    // Not a closure over the offer: a session can outlive the request, and the connection, that it began with.
    const session = new LiveSession(offer, this.#observers, this.#remove);
    this.#live.set(offer.id, session);
    return session;
  }

  /** Aborts every session. */
  endAll(reason: EndReason): void {
    for (const session of this.#live.values()) session.abort(reason);
  }

  /** Aborts the sessions that match, opening ones too. Returns how many. */
  endWhere(matches: (record: SessionRecord) => boolean, reason: EndReason, why: string): number {
    const ending = [...this.#live.values()].filter(({ record }) => matches(record));
    for (const session of ending) session.abort(reason, why);
    return ending.length;
  }

  /** Resolves when no session is left. */
  async empty(): Promise<void> {
    if (this.#live.size > 0) await new Promise<void>((resolve) => this.#onEmpty.push(resolve));
  }
}

type Writable<T> = { -readonly [Name in keyof T]: T[Name] };

class LiveSession implements Session {
  readonly record: Writable<SessionRecord>;
  readonly #observers: readonly SessionObserver[];
  readonly #remove: (id: string) => void;
  readonly #abort = new AbortController();
  #why: string | undefined;
  #count: ConnectionCount | undefined;

  constructor(offer: SessionOrigin, observers: readonly SessionObserver[], remove: (id: string) => void) {
    this.#observers = observers;
    this.#remove = remove;
    this.record = {
      id: offer.id,
      entry: offer.entry,
      requested: offer.requested,
      remoteAddress: offer.remoteAddress,
      offeredAt: Date.now(),
      resumes: 0,
      bytesFromClient: 0,
      bytesFromTarget: 0,
    };
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get why(): string | undefined {
    return this.#why;
  }

  abort(reason: EndReason, why?: string): void {
    if (this.#abort.signal.aborted) return;
    this.#why = why;
    this.#abort.abort(reason);
  }

  countedBy(count: ConnectionCount): void {
    this.#count = count;
  }

  identified(principal: Principal): void {
    this.record.principal = principal;
  }

  granted(grant: Grant): void {
    this.record.grant = grant;
  }

  dialled(dialled: Target, dialMs: number): void {
    this.record.dialled = dialled;
    this.record.dialMs = dialMs;
    for (const observer of this.#observers) observer.dialled?.(this.record, { code: 'OK', dialMs });
  }

  notDialled(code: Exclude<DialResult['code'], 'OK'>, dialMs: number): void {
    for (const observer of this.#observers) observer.dialled?.(this.record, { code, dialMs });
  }

  async opening(): Promise<void> {
    for (const observer of this.#observers) if (observer.opening) await observer.opening(this.record);
  }

  opened(): void {
    this.record.openedAt = Date.now();
    for (const observer of this.#observers) observer.opened?.(this.record);
  }

  detached(how: CarrierEnd['how']): void {
    this.record.detachedAt = Date.now();
    this.#count?.detach();
    for (const observer of this.#observers) observer.detached?.(this.record, how);
  }

  resumed(what: Omit<Resume, 'awayMs' | 'wasDetached'>): void {
    const { detachedAt } = this.record;
    const wasDetached = detachedAt !== undefined;
    const awayMs = wasDetached ? Math.max(0, Date.now() - detachedAt) : 0;
    this.record.detachedAt = undefined;
    this.record.resumes++;
    this.record.remoteAddress = what.remoteAddress;
    this.#count?.attach(what.remoteAddress);
    for (const observer of this.#observers) observer.resumed?.(this.record, { ...what, wasDetached, awayMs });
  }

  end(
    end: SessionEnd,
    more: { bytesFromClient?: number; bytesFromTarget?: number; reason?: string } = {},
  ): void {
    if (this.record.end !== undefined) return;
    const reason = this.#why ?? more.reason;
    Object.assign(this.record, more);
    if (reason !== undefined) this.record.reason = reason;
    this.record.end = end;
    this.record.endedAt = Date.now();
    this.#remove(this.record.id);
    for (const observer of this.#observers) observer.ended(this.record);
  }
}
