import { withDeadline } from '../../base/deadline.ts';
import { TunnelError } from '../../protocol/errors.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Limits } from '../config/config.ts';
import { customerNetwork } from '../net/cidr.ts';
import { asyncCounter, ownCounter } from './counter.ts';
import type { AsyncCounter, Counter } from './counter.ts';
import { OpenRate } from './open-rate.ts';

/** A count that is kept elsewhere and does not answer for this long cannot be kept. */
const countingMs = 5000;

/** The person or service that tunnels are counted for. */
export type CountedOwner = Pick<Principal, 'issuer' | 'subject'>;

/** The detached tunnels that are counted together: those of a person, those to a target, or all of them. */
export type DetachedScope =
  { readonly owner: CountedOwner } | { readonly target: string } | { readonly all: true };

/**
 * Called when more tunnels of a scope are detached than `max`: the oldest have to give up their places, in whatever process
 * of the gateway they are.
 */
export type OnTooManyDetached = (scope: DetachedScope, max: number) => void;

export interface TunnelLimiterOptions {
  /** With one that several processes share, the limits are those of all of them together. */
  readonly counter?: Counter | undefined;
  /** Counts the tunnels of each principal; by default `counter` does. */
  readonly principals?: AsyncCounter;
  readonly onTooManyDetached?: OnTooManyDetached;
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

/**
 * Counts tunnels, and offers that can become tunnels, against the configured limits. A tunnel that waits for its client is
 * none of them: it has a limit of its own, at which it is not the new tunnel that is refused, but the one that has waited longest
 * that is ended.
 */
export class TunnelLimiter {
  readonly #counter: Counter;
  readonly #principals: AsyncCounter;
  readonly #onTooManyDetached: OnTooManyDetached;
  readonly #rate: OpenRate;

  constructor(options: TunnelLimiterOptions = {}) {
    const { counter = ownCounter(), onTooManyDetached = () => {} } = options;
    this.#counter = counter;
    this.#principals = options.principals ?? asyncCounter(counter);
    this.#onTooManyDetached = onTooManyDetached;
    this.#rate = new OpenRate(counter, options.now);
  }

  /** Counts an offer from an address. Throws `LIMIT_TUNNELS`, `LIMIT_ADDRESS`. */
  countOffer(address: string, limits: Limits): TunnelCount {
    return new TunnelCount(
      {
        counter: this.#counter,
        principals: this.#principals,
        onTooManyDetached: this.#onTooManyDetached,
        rate: this.#rate,
      },
      address,
      limits,
    );
  }

  /**
   * Counts a request to resume a tunnel. These have limits of their own: a client that has all the tunnels it is allowed
   * must still be able to resume them. Throws as `countOffer` does. Returns the function that releases it.
   */
  acquireForResume(address: string, limits: Limits): () => void {
    return acquireAt(this.#counter, 'resume', address, limits);
  }
}

interface CountParts {
  readonly counter: Counter;
  readonly principals: AsyncCounter;
  readonly onTooManyDetached: OnTooManyDetached;
  readonly rate: OpenRate;
}

/**
 * All that one offer, and the tunnel that it becomes, is counted for. While the tunnel is detached it counts among the
 * detached ones only; when its client comes back it counts as before, and no limit can refuse it that.
 */
export class TunnelCount {
  readonly #parts: CountParts;
  readonly #limits: Limits;
  #releaseAddress: () => void;
  #owner: CountedOwner | undefined;
  #target: string | undefined;
  #state: 'attached' | 'detached' | 'released' = 'attached';

  /** Throws `LIMIT_TUNNELS`, `LIMIT_ADDRESS`; then nothing is counted. */
  constructor(parts: CountParts, address: string, limits: Limits) {
    this.#parts = parts;
    this.#limits = limits;
    this.#releaseAddress = acquireAt(parts.counter, 'offer', address, limits);
  }

  /**
   * Counts it for its principal too. Rejects with `LIMIT_RATE`, `LIMIT_SUBJECT`, with `STORE_UNAVAILABLE`, and as soon as
   * `signal` aborts; whatever is counted after a rejection is taken back.
   */
  async addPrincipal({ issuer, subject }: CountedOwner, signal: AbortSignal): Promise<void> {
    const owner = { issuer, subject };
    const { principals, rate } = this.#parts;
    const { perSubject, opensPerMinute } = this.#limits;
    if (opensPerMinute !== undefined) rate.count(ownerName(owner), opensPerMinute);
    const name = `subject ${ownerName(owner)}`;
    const counting = principals.add(name);
    let count: number;
    try {
      count = await withDeadline(signal, countingMs, () => counting, {
        onTimeout: () =>
          new TunnelError('STORE_UNAVAILABLE', 'the gateway could not count your tunnels in time'),
      });
    } catch (error) {
      void counting.then(
        () => principals.remove(name),
        () => {},
      );
      throw error;
    }
    if (count > perSubject) {
      principals.remove(name);
      throw new TunnelError('LIMIT_SUBJECT', 'you have too many tunnels open');
    }
    this.#owner = owner;
    this.#makeRoom({ owner });
  }

  /** Counts it for its target too. Throws `LIMIT_TARGET`. */
  addTarget(target: Target): void {
    const { perTarget } = this.#limits;
    if (perTarget === undefined) return;
    const name = formatTarget(target);
    const { counter } = this.#parts;
    acquire(counter, `target ${name}`, perTarget, refusals.target);
    this.#target = name;
    this.#makeRoom({ target: name });
  }

  /** The tunnel waits for its client. */
  detach(): void {
    if (this.#state !== 'attached') return;
    this.#state = 'detached';
    this.#releaseAttached();
    const { counter, onTooManyDetached } = this.#parts;
    for (const scope of this.#scopes()) {
      const count = counter.add(detachedName(scope));
      const max = this.#maxDetached(scope);
      if (count > max) onTooManyDetached(scope, max);
    }
  }

  /** The tunnel has a connection again, or another one, from this address. */
  attach(address: string): void {
    if (this.#state === 'released') return;
    const { counter, principals } = this.#parts;
    if (this.#state === 'attached') this.#releaseAddress();
    else {
      this.#removeDetached();
      this.#state = 'attached';
      // Nothing waits for it, and nothing could be refused.
      if (this.#owner) void principals.add(`subject ${ownerName(this.#owner)}`).catch(() => {});
      if (this.#target !== undefined) counter.add(`target ${this.#target}`);
    }
    const names = ['offer', `offer ${customerNetwork(address)}`];
    for (const name of names) counter.add(name);
    this.#releaseAddress = () => {
      for (const name of names) counter.remove(name);
    };
  }

  /** Takes everything back. Calls after the first change nothing. */
  release(): void {
    if (this.#state === 'attached') this.#releaseAttached();
    else if (this.#state === 'detached') this.#removeDetached();
    this.#state = 'released';
  }

  #releaseAttached(): void {
    const { counter, principals } = this.#parts;
    this.#releaseAddress();
    if (this.#owner) principals.remove(`subject ${ownerName(this.#owner)}`);
    if (this.#target !== undefined) counter.remove(`target ${this.#target}`);
  }

  #removeDetached(): void {
    for (const scope of this.#scopes()) this.#parts.counter.remove(detachedName(scope));
  }

  /** A new tunnel can be detached one day: where there is no room for that, the oldest gives up its place now. */
  #makeRoom(scope: DetachedScope): void {
    const max = this.#maxDetached(scope);
    const { counter, onTooManyDetached } = this.#parts;
    if (counter.count(detachedName(scope)) >= max) onTooManyDetached(scope, max - 1);
  }

  #scopes(): readonly DetachedScope[] {
    return [
      { all: true },
      ...(this.#owner ? [{ owner: this.#owner }] : []),
      ...(this.#target === undefined ? [] : [{ target: this.#target }]),
    ];
  }

  #maxDetached(scope: DetachedScope): number {
    const { tunnels, perSubject, perTarget, detachedPerSubject = perSubject } = this.#limits;
    if ('owner' in scope) return detachedPerSubject;
    return 'target' in scope ? perTarget! : tunnels;
  }
}

function acquireAt(counter: Counter, what: 'offer' | 'resume', address: string, limits: Limits): () => void {
  const releaseAll = acquire(counter, what, limits.tunnels, refusals.all);
  try {
    const bucket = `${what} ${customerNetwork(address)}`;
    const releaseAddress = acquire(counter, bucket, limits.perAddress, refusals.address);
    return () => {
      releaseAddress();
      releaseAll();
    };
  } catch (error) {
    releaseAll();
    throw error;
  }
}

function acquire(counter: Counter, name: string, limit: number, refusal: () => TunnelError): () => void {
  const count = counter.add(name);
  const release = (): void => counter.remove(name);
  if (count <= limit) return release;
  release();
  throw refusal();
}

const refusals = {
  all: () => new TunnelError('LIMIT_TUNNELS', 'the gateway has reached its limit of tunnels'),
  address: () => new TunnelError('LIMIT_ADDRESS', 'too many tunnels from your address'),
  target: () => new TunnelError('LIMIT_TARGET', 'the target has all the tunnels that the gateway allows it'),
};

/** Names a person or service, in counts and queues. */
export function ownerName({ issuer, subject }: CountedOwner): string {
  return JSON.stringify([issuer, subject]);
}

function detachedName(scope: DetachedScope): string {
  if ('owner' in scope) return `detached ${ownerName(scope.owner)}`;
  return 'target' in scope ? `detached ${scope.target}` : 'detached';
}
