import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import type { ResumeCause } from '../../protocol/resume-cause.ts';
import type { Carrier, CarrierEnd } from '../../stream/carrier.ts';
import { RelayStream } from '../../stream/relay-stream.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import type { ConnectionAges } from './learned-max-age.ts';
import { watchNetwork } from './network-monitor.ts';
import type { NetworkMonitor } from './network-monitor.ts';
import { noticeInterruption } from './reconnect-notice.ts';
import {
  attemptLimitMs,
  calmPauseMs,
  causeOfEnd,
  firstPauseMs,
  isFinal,
  PlannedReconnects,
  urgentPauseMs,
} from './reconnect-policy.ts';
import type { ResumeRequest, ResumeResult } from './resume-request.ts';
import { HedgedRetry } from './retry.ts';
import type { TunnelObserver } from './tunnel-status-file.ts';

/**
 * The states of a tunnel and the events that change them. An event without a row leaves the state as it is.
 *
 *     state          meaning                                        event          next state
 *     connected      bytes get through, as far as is known          unresponsive   suspect
 *                                                                   lost           reconnecting
 *     suspect        there is a connection, but the gateway owes    recovered      connected
 *                    a reply for too long: another one is sought    lost           reconnecting
 *                    and this one is kept, it can just be slow      resumed        connected
 *     reconnecting   there is no connection                         resumed        connected
 *     any            the stream was closed, by either side          closed         ended
 *
 * `connected` also reconnects: before the connection reaches its maximum age, to a better connector, or when the gateway
 * asks for it. Those attempts have time, and the state stays `connected` throughout.
 */
export const transitions = {
  connected: { unresponsive: 'suspect', lost: 'reconnecting', closed: 'ended' },
  suspect: { recovered: 'connected', lost: 'reconnecting', resumed: 'connected', closed: 'ended' },
  reconnecting: { resumed: 'connected', closed: 'ended' },
  ended: {},
} as const satisfies Record<string, Partial<Record<ReconnectEvent, string>>>;

export type ReconnectState = keyof typeof transitions;
type ReconnectEvent = 'unresponsive' | 'recovered' | 'lost' | 'resumed' | 'closed';

export interface ReconnectorOptions {
  readonly windowBytes: number;
  /** How long the gateway keeps a tunnel without a connection, and attempts go on. */
  readonly keepMs: number;
  /** The age that intermediaries let connections reach, as the gateway announces it. */
  readonly carrierMs?: number;
  readonly ages?: ConnectionAges;
  readonly watch?: TunnelObserver;
  /** Whether there is a better connector than the one that brought the first carrier. */
  readonly isSecondBest?: boolean;
  /** Time until a better connector is tried. */
  readonly betterAfterMs?: number;
  readonly warn: (line: string) => void;
  /** Asks the gateway to resume; the caller owns the carrier, which is held. */
  readonly resume: (request: ResumeRequest, signal: AbortSignal) => Promise<ResumeResult>;
}

/** After a wake-up or a change of the network, a connection that is active for this long has survived it. */
const doubtMs = 4000;
/** A connection that was lost sooner than this, and brought nothing, was useless; after two of them there is a pause. */
const uselessMs = 5000;
/** Requests that overtake each other make the gateway reject the slower one; this many times that is no reason to stop. */
const maxOvertaken = 3;

/** Keeps a tunnel alive over the loss of its connections, and replaces them before they are lost where that is foreseeable. */
export class Reconnector {
  readonly #options: ReconnectorOptions;
  readonly #stream: RelayStream;
  readonly #planned: PlannedReconnects;
  #state: ReconnectState = 'connected';
  /** When the tunnel was last known to work; meaningful outside `connected`. */
  #awaySince = 0;
  #network: NetworkMonitor | undefined;
  #retry: HedgedRetry<ResumeResult> | undefined;
  #cause: ResumeCause = 'reset';
  /** What would explain the loss of the connection just now: a wake-up or a change of the network. */
  #expectedCause: ResumeCause | undefined;
  #expectationTimer: NodeJS.Timeout | undefined;
  #attachedAt = performance.now();
  /** The value of `#progress` when the connection began. */
  #progressAt = 0;
  #uselessConnections = 0;
  /** The attempts under way began with `suspect`: when the old connection recovers they are not needed. */
  #isOnlySilent = false;
  #count = 0;
  #overtaken = 0;
  #lastFailure: TunnelError | undefined;

  constructor(options: ReconnectorOptions) {
    this.#options = options;
    this.#planned = new PlannedReconnects((cause) => this.#onPlanDue(cause), options);
    this.#stream = new RelayStream({
      hearsReasons: true,
      isV4: false,
      windowBytes: options.windowBytes,
      onDetached: (end) => this.#onLost(end),
      onReconnectRequested: () => void this.#reconnect('move'),
      onUnresponsive: () => this.#onUnresponsive(),
      onRecovered: () => this.#onRecovered(),
    });
  }

  get state(): ReconnectState {
    return this.#state;
  }

  /** Starts the tunnel on its first carrier, which it takes over. The caller owns the stream. */
  start(carrier: Carrier): Duplex {
    this.#network = watchNetwork({
      onWake: () => this.#onDisturbance('wake'),
      onNetworkChange: () => this.#onDisturbance('network'),
    });
    this.#stream.once('close', () => this.#onClosed());
    this.#attach(carrier, { peerReceived: 0, from: 0 }, this.#options.isSecondBest);
    // ssh's first bytes need not wait for it.
    setImmediate(() => {
      if (!this.#stream.destroyed && this.#state === 'connected') this.#options.watch?.opened();
    });
    return this.#stream;
  }

  #step(event: ReconnectEvent): void {
    const row: Partial<Record<ReconnectEvent, ReconnectState>> = transitions[this.#state];
    const next = row[event] ?? this.#state;
    if (this.#state === 'connected' && next !== 'connected') this.#awaySince = performance.now();
    this.#state = next;
  }

  #onClosed(): void {
    const wasConnected = this.#state === 'connected';
    this.#step('closed');
    this.#network?.stop();
    this.#planned.stop();
    clearTimeout(this.#expectationTimer);
    const ended = new ClientError('TUNNEL_LOST', 'the session has ended');
    // The close can race with a resume: the gateway can have moved to the next connection already, and that must be told.
    if (wasConnected) this.#retry?.finish(ended);
    else this.#retry?.stop(ended);
    this.#options.watch?.ended();
  }

  /** The connection can be dead without a sign of it: checks it. Attempts under way are repeated at once. */
  #onDisturbance(cause: ResumeCause): void {
    this.#retry?.retryNow();
    if (!this.#stream.isAttached) return;
    this.#expectedCause = cause;
    clearTimeout(this.#expectationTimer);
    this.#expectationTimer = setTimeout(() => (this.#expectedCause = undefined), doubtMs);
    this.#expectationTimer.unref();
    this.#stream.probe();
  }

  /** The known reason for a loss, if there is one; looks now, since the network can have changed after the last look. */
  #knownCause(): ResumeCause | undefined {
    if (this.#network?.hasMoved()) this.#expectedCause ??= 'network';
    return this.#expectedCause;
  }

  #onUnresponsive(): void {
    this.#step('unresponsive');
    this.#isOnlySilent = this.#retry === undefined;
    void this.#reconnect(this.#knownCause() ?? 'silent');
  }

  #onRecovered(): void {
    this.#step('recovered');
    this.#expectedCause = undefined;
    if (this.#isOnlySilent) this.#retry?.stop(notNeeded);
  }

  #onLost(end: CarrierEnd): void {
    this.#step('lost');
    const ageMs = performance.now() - this.#attachedAt;
    this.#isOnlySilent = false;
    this.#planned.lost();
    const isUseless = ageMs < uselessMs && this.#progress() === this.#progressAt;
    this.#uselessConnections = isUseless ? this.#uselessConnections + 1 : 0;
    const known = this.#knownCause();
    const cause = end.how === 'silent' ? (known ?? 'silent') : causeOfEnd[end.how];
    // After a wake-up or a network change there is a reason, whatever the age; and the gateway drops a connection for a better one.
    const isDropped = this.#retry !== undefined && this.#cause === 'better';
    if (end.how !== 'silent' && known === undefined && !isDropped) this.#options.ages?.cutAt(ageMs);
    this.#options.watch?.lost();
    void this.#reconnect(cause);
  }

  /** The bytes that are known to have arrived, in both directions. */
  #progress(): number {
    return this.#stream.received + this.#stream.acknowledged;
  }

  /** Throws as `RelayStream.attach`. The carrier can end while it is being attached: the state is that of a loss then. */
  #attach(carrier: Carrier, at: { peerReceived: number; from: number }, isSecondBest = false): void {
    this.#attachedAt = performance.now();
    this.#progressAt = this.#progress();
    this.#stream.attach(carrier, at);
    if (!this.#stream.isAttached) return;
    this.#step('resumed');
    this.#progressAt = this.#progress();
    this.#expectedCause = undefined;
    this.#planned.plan(this.#options.carrierMs ?? this.#options.ages?.limitMs, isSecondBest);
  }

  #onPlanDue(cause: 'age' | 'better'): void {
    if (cause === 'better' && (this.#retry !== undefined || !this.#stream.isAttached)) return;
    void this.#reconnect(cause);
  }

  /** Makes attempts until there is another connection, time is up, or the gateway's answer is final. Never rejects. */
  async #reconnect(cause: ResumeCause): Promise<void> {
    this.#cause = cause;
    if (this.#retry !== undefined) return this.#retry.retryNow();
    this.#overtaken = 0;
    const notice = noticeInterruption(this.#options.warn, () => this.#state !== 'connected' && this.#cause);
    try {
      this.#retry = new HedgedRetry({
        attempt: (signal, onReached) => this.#attempt(signal, onReached),
        pauseMs: (number) => (this.#state === 'connected' ? calmPauseMs(number) : urgentPauseMs(number)),
        limitMs: attemptLimitMs,
        review: (error) => this.#review(error),
        discard: ({ carrier }) => this.#stream.rejectCarrier(carrier),
      });
      this.#resume(await this.#retry.run(firstPauseMs(cause, this.#uselessConnections)));
      if (this.#stream.isAttached) notice.resumed();
    } catch (error) {
      if (error === notNeeded) notice.resumed();
      else this.#fail(toFailure(error));
    } finally {
      notice.stop();
      this.#retry = undefined;
    }
    // The new connection can have been lost before the promise of its attempt settled.
    if (!this.#stream.isAttached && !this.#stream.destroyed) void this.#reconnect(this.#cause);
  }

  #attempt(signal: AbortSignal, onReached: () => void): Promise<ResumeResult> {
    return this.#options.resume(
      {
        received: this.#stream.received,
        cause: this.#cause,
        nextCount: () => ++this.#count,
        onConnected: onReached,
      },
      signal,
    );
  }

  /** Stops the attempts when another one would be of no use. */
  #review(error: unknown): void {
    if (error !== undefined) {
      // A better connector is worth one attempt at a time.
      if (this.#cause === 'better') return this.#retry?.stop(notNeeded);
      const failure = (this.#lastFailure = toFailure(error));
      if (failure.code === 'REJOIN_INVALID' && ++this.#overtaken < maxOvertaken) return;
      if (isFinal(failure.code)) return this.#retry?.stop(failure);
    }
    const { keepMs } = this.#options;
    if (this.#state === 'connected' || performance.now() - this.#awaySince < keepMs) return;
    const [minutes, cause] = [Math.round(keepMs / 60_000), this.#lastFailure];
    const why = cause === undefined ? '' : `: ${cause.message}`;
    const what = `the connection could not be restored within ${minutes} minutes${why}`;
    this.#retry?.stop(new ClientError('TUNNEL_LOST', what, { cause }));
  }

  #resume({ carrier, resumed: joined, isSecondBest }: ResumeResult): void {
    if (this.#stream.destroyed) return this.#stream.rejectCarrier(carrier);
    try {
      this.#attach(carrier, { peerReceived: joined.received, from: joined.from ?? 0 }, isSecondBest);
    } catch (cause) {
      carrier.drop();
      throw new ClientError('TUNNEL_LOST', 'the gateway resumed the session at the wrong position', {
        cause,
      });
    }
    if (this.#stream.isAttached) this.#options.watch?.resumed();
  }

  #fail(failure: TunnelError): void {
    if (this.#stream.destroyed) return;
    // A connection that can still work is not given up because there is no other; its pings end a dead one.
    if (this.#stream.isAttached) return;
    // Both ends have sent everything; that the gateway has forgotten the tunnel does no harm.
    if (this.#stream.hasEnded) this.#stream.destroy();
    else this.#stream.destroy(failure);
  }
}

/** Stops attempts that are no longer needed. */
const notNeeded = Symbol('not needed');
