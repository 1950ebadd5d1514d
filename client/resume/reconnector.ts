import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import { resumeCauses } from '../../protocol/resume-cause.ts';
import type { ResumeCause } from '../../protocol/resume-cause.ts';
import type { RelayJoined } from '../../protocol/relay-frame.ts';
import type { Carrier, CarrierEnd } from '../../stream/carrier.ts';
import { RelayStream } from '../../stream/relay-stream.ts';
import type { ConnectionAges, TunnelObserver } from '../entry/entry.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { watchSurroundings } from './network-monitor.ts';
import type { NetworkMonitor } from './network-monitor.ts';
import { HedgedRetry } from './retry.ts';

/** What a request to go on says. */
export interface ResumeRequest {
  /** How far we have taken what the gateway sent. */
  readonly received: number;
  readonly cause: ResumeCause;
  /** The number of the request, higher than that of every one before; taken when it is made. */
  readonly nextCount: () => number;
  /** Told when the gateway, or a proxy before it, has been reached. */
  readonly onConnected: () => void;
}

export interface ResumeResult {
  readonly carrier: Carrier;
  readonly resumed: RelayJoined;
  /** Whether there is a better way than the one by which it came. */
  readonly isSecondBest?: boolean;
}

export interface ReconnectorOptions {
  readonly windowBytes: number;
  /** How long the gateway keeps the tunnel, and we try. */
  readonly keepMs: number;
  /** The age to which connections live on the way, as the gateway says. */
  readonly carrierMs?: number;
  readonly ages?: ConnectionAges;
  readonly watch?: TunnelObserver;
  /** Whether there is a better way than the one by which the first carrier came. */
  readonly isSecondBest?: boolean;
  /** After how long a better way is tried. */
  readonly betterAfterMs?: number;
  readonly warn: (line: string) => void;
  /** Asks the gateway to go on; the caller owns the carrier, which is held. */
  readonly resume: (asked: ResumeRequest, signal: AbortSignal) => Promise<ResumeResult>;
}

/** A silence that people notice is explained after this time. */
const quietMs = 3000;
/** After a wake-up or a change of the network, a connection that speaks for this long has survived it. */
const doubtMs = 4000;
/** The new connection is there this much before the old one is expected to be cut. */
const beforeCut = 0.9;
/** A connection that was lost sooner than this, and brought nothing, had no use; after two of them we wait. */
const uselessMs = 5000;
const maxUselessPauseMs = 5000;
/** Requests that overtake each other on the way make the gateway refuse the slower one. */
const maxOvertaken = 3;
/** A better way is tried after this time, and each time that it was none, after three times as long. */
const defaultBetterAfterMs = 60_000;
const maxBetterAfterMs = 2 * 3_600_000;

/** Keeps a tunnel going over the loss of its connections, and changes them before they are lost where that is known. */
export class Reconnector {
  readonly #options: ReconnectorOptions;
  readonly #stream: RelayStream;
  #surroundings: NetworkMonitor | undefined;
  #tries: HedgedRetry<ResumeResult> | undefined;
  #cause: ResumeCause = 'reset';
  /** Set while a dead connection would be the fault of something that we know. */
  #doubted: ResumeCause | undefined;
  #attachedAt = performance.now();
  /** How much of both ways was known to have arrived when the connection began. */
  #progressAt = 0;
  #useless = 0;
  /** Since when nothing gets through, as far as we know. */
  #awaySince: number | undefined;
  /** The tries that are under way are only for a silence: when the old connection speaks again they are for nothing. */
  #isOnlySilent = false;
  #count = 0;
  #overtaken = 0;
  #lastFailure: TunnelError | undefined;
  #ageTimer: NodeJS.Timeout | undefined;
  #doubtTimer: NodeJS.Timeout | undefined;
  #betterTimer: NodeJS.Timeout | undefined;
  #betterAfterMs: number;

  constructor(options: ReconnectorOptions) {
    this.#options = options;
    this.#betterAfterMs = options.betterAfterMs ?? defaultBetterAfterMs;
    this.#stream = new RelayStream({
      isV4: false,
      windowBytes: options.windowBytes,
      onDetached: (end) => this.#lost(end),
      onReconnectRequested: () => void this.#reconnect('move'),
      onUnresponsive: () => this.#silent(),
      onRecovered: () => this.#heardAgain(),
    });
  }

  /** Starts the tunnel on its first carrier, which it takes over, and gives its bytes. */
  start(carrier: Carrier): Duplex {
    const surroundings = (this.#surroundings = watchSurroundings({
      onWake: () => this.#doubt('wake'),
      onNetworkChange: () => this.#doubt('network'),
    }));
    this.#stream.once('close', () => {
      surroundings.stop();
      clearTimeout(this.#ageTimer);
      clearTimeout(this.#doubtTimer);
      clearTimeout(this.#betterTimer);
      const ended = new ClientError('TUNNEL_LOST', 'the session has ended');
      // Who has ended it on a connection that lives may have been too late: the gateway may have gone over to the next one.
      if (this.#awaySince === undefined) this.#tries?.finish(ended);
      else this.#tries?.stop(ended);
      this.#options.watch?.ended();
    });
    this.#stream.attach(carrier, { peerReceived: 0, from: 0 });
    this.#attached(this.#options.isSecondBest);
    // ssh's first bytes need not wait for it.
    setImmediate(() => {
      if (!this.#stream.destroyed && this.#awaySince === undefined) this.#options.watch?.opened();
    });
    return this.#stream;
  }

  /** The connection may be dead without knowing it. Who is trying already tries again at once. */
  #doubt(cause: ResumeCause): void {
    this.#tries?.retryNow();
    if (!this.#stream.isAttached) return;
    this.#doubted = cause;
    clearTimeout(this.#doubtTimer);
    this.#doubtTimer = setTimeout(() => (this.#doubted = undefined), doubtMs);
    this.#doubtTimer.unref();
    this.#stream.probe();
  }

  /** What we know that would end a connection, or find out now: the network may have changed since we last looked. */
  #reasonToDoubt(): ResumeCause | undefined {
    if (this.#surroundings?.hasMoved()) this.#doubted ??= 'network';
    return this.#doubted;
  }

  /** Another connection is looked for, and this one kept: it may only be slow. */
  #silent(): void {
    this.#awaySince ??= performance.now();
    this.#isOnlySilent = this.#tries === undefined;
    void this.#reconnect(this.#reasonToDoubt() ?? 'silent');
  }

  #heardAgain(): void {
    this.#awaySince = undefined;
    this.#doubted = undefined;
    if (this.#isOnlySilent) this.#tries?.stop(notNeeded);
  }

  #lost(end: CarrierEnd): void {
    const now = performance.now();
    this.#awaySince ??= now;
    this.#isOnlySilent = false;
    clearTimeout(this.#ageTimer);
    const isUseless = now - this.#attachedAt < uselessMs && this.#progress() === this.#progressAt;
    this.#useless = isUseless ? this.#useless + 1 : 0;
    const reason = this.#reasonToDoubt();
    const cause = end.how === 'silent' ? (reason ?? 'silent') : causes[end.how];
    // After a wake-up or on another network there is a reason, whatever the age; and the gateway drops what it has a better one for.
    const isDropped = this.#tries !== undefined && this.#cause === 'better';
    if (end.how !== 'silent' && reason === undefined && !isDropped)
      this.#options.ages?.cutAt(now - this.#attachedAt);
    this.#options.watch?.lost();
    void this.#reconnect(cause);
  }

  #progress(): number {
    return this.#stream.received + this.#stream.acknowledged;
  }

  #attached(isSecondBest = false): void {
    clearTimeout(this.#betterTimer);
    if (isSecondBest) this.#tryBetterLater();
    this.#attachedAt = performance.now();
    this.#progressAt = this.#progress();
    this.#awaySince = undefined;
    this.#doubted = undefined;
    clearTimeout(this.#ageTimer);
    const limitMs = this.#options.carrierMs ?? this.#options.ages?.limitMs;
    if (limitMs === undefined) return;
    this.#ageTimer = setTimeout(() => void this.#reconnect('age'), limitMs * beforeCut);
    this.#ageTimer.unref();
  }

  /** The way may be free by now; until then the tunnel goes on as it does. */
  #tryBetterLater(): void {
    const tryIt = (): void => {
      this.#betterAfterMs = Math.min(3 * this.#betterAfterMs, maxBetterAfterMs);
      this.#tryBetterLater();
      if (this.#tries === undefined && this.#stream.isAttached) void this.#reconnect('better');
    };
    this.#betterTimer = setTimeout(tryIt, this.#betterAfterMs * (0.8 + 0.4 * Math.random()));
    this.#betterTimer.unref();
  }

  /** Tries until there is another connection, the time is over, or the gateway has said no. Never rejects. */
  async #reconnect(cause: ResumeCause): Promise<void> {
    this.#cause = cause;
    if (this.#tries !== undefined) return this.#tries.retryNow();
    this.#overtaken = 0;
    const telling = this.#warnWhenLong();
    try {
      this.#tries = new HedgedRetry({
        attempt: (signal, reached) => this.#attempt(signal, reached),
        pauseMs: (number) => (this.#awaySince === undefined ? calmPauseMs(number) : urgentPauseMs(number)),
        limitMs: tryLimitMs,
        review: (error) => this.#review(error),
        discard: ({ carrier }) => this.#stream.rejectCarrier(carrier),
      });
      this.#resume(await this.#tries.run(this.#pauseMs()));
      telling.resumed();
    } catch (error) {
      if (error === notNeeded) telling.resumed();
      else this.#giveUp(toFailure(error));
    } finally {
      telling.stop();
      this.#tries = undefined;
    }
    // It may have been lost again before its promise was seen.
    if (!this.#stream.isAttached && !this.#stream.destroyed) void this.#reconnect(this.#cause);
  }

  /** Something that takes connections only to cut them again is not asked as fast as it cuts. */
  #pauseMs(): number {
    return this.#useless < 2 ? 0 : Math.min(maxUselessPauseMs, 125 * 2 ** this.#useless);
  }

  #attempt(signal: AbortSignal, reached: () => void): Promise<ResumeResult> {
    return this.#options.resume(
      {
        received: this.#stream.received,
        cause: this.#cause,
        nextCount: () => ++this.#count,
        onConnected: reached,
      },
      signal,
    );
  }

  /** Stops the tries when there is no use in going on. */
  #review(error: unknown): void {
    if (error !== undefined) {
      const failure = toFailure(error);
      // It was only worth one try.
      if (this.#cause === 'better') return this.#tries?.stop(notNeeded);
      this.#lastFailure = failure;
      if (failure.code === 'REJOIN_INVALID' && ++this.#overtaken < maxOvertaken) return;
      if (failure.facts.final) return this.#tries?.stop(failure);
    }
    const { keepMs } = this.#options;
    if (this.#awaySince === undefined || performance.now() - this.#awaySince < keepMs) return;
    const [minutes, cause] = [Math.round(keepMs / 60_000), this.#lastFailure];
    const why = cause === undefined ? '' : `: ${cause.message}`;
    const what = `the connection could not be restored within ${minutes} minutes${why}`;
    this.#tries?.stop(new ClientError('TUNNEL_LOST', what, { cause }));
  }

  #resume({ carrier, resumed: joined, isSecondBest }: ResumeResult): void {
    if (this.#stream.destroyed) return this.#stream.rejectCarrier(carrier);
    try {
      this.#stream.attach(carrier, { peerReceived: joined.received, from: joined.from ?? 0 });
    } catch (cause) {
      carrier.drop();
      throw new ClientError('TUNNEL_LOST', 'the gateway goes on at a place where the session is not', {
        cause,
      });
    }
    this.#attached(isSecondBest);
    this.#options.watch?.resumed();
  }

  #giveUp(failure: TunnelError): void {
    if (this.#stream.destroyed) return;
    // A connection that may still work is not given up because there is no other; its pings end a dead one.
    if (this.#stream.isAttached) return;
    // Both ends have said everything; that the gateway has forgotten about it does no harm.
    if (this.#stream.hasEnded) this.#stream.destroy();
    else this.#stream.destroy(failure);
  }

  #warnWhenLong(): { resumed(): void; stop(): void } {
    const startedAt = Date.now();
    let told = false;
    const timer = setTimeout(() => {
      if (this.#awaySince === undefined) return;
      told = true;
      this.#options.warn(`postern: reconnecting… (${resumeCauses[this.#cause]})\n`);
    }, quietMs);
    timer.unref();
    return {
      resumed: () => {
        if (!told) return;
        const seconds = Math.round((Date.now() - startedAt) / 1000);
        this.#options.warn(`postern: resumed after ${seconds} s\n`);
      },
      stop: () => clearTimeout(timer),
    };
  }
}

/** Stops tries that have become needless. */
const notNeeded = Symbol('not needed');

const causes: Readonly<Record<Exclude<CarrierEnd['how'], 'silent'>, ResumeCause>> = {
  reset: 'reset',
  dropped: 'dropped',
  closed: 'closed',
  replaced: 'dropped',
  violation: 'reset',
};

/** At first at once, then once in a second, so that a network that comes back is soon noticed; after minutes less often. */
function urgentPauseMs(number: number): number {
  const base = number < 2 ? 250 : number < 300 ? 1000 : 5000;
  return base * (0.8 + 0.4 * Math.random());
}

/** While the old connection still works nobody is in a hurry. */
function calmPauseMs(number: number): number {
  return Math.min(60_000, 1000 * 2 ** number) * (0.8 + 0.4 * Math.random());
}

/** Every eighth try takes its time, for networks that are slow rather than broken. */
function tryLimitMs(number: number): number {
  return number % 8 === 7 ? 20_000 : 5000;
}
