import ipaddr from 'ipaddr.js';
import { withDeadline } from '../../base/deadline.ts';
import { TunnelError } from '../../protocol/errors.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Limits } from '../config/config.ts';
import { asyncCounter, ownCounter } from './counter.ts';
import type { AsyncCounter, Counter } from './counter.ts';

/** A count that is kept elsewhere and does not answer for this long cannot be kept. */
const countingMs = 5000;

/** Counts tunnels, and offers that can become tunnels, against the configured limits. */
export class TunnelLimiter {
  readonly #counter: Counter;
  readonly #principals: AsyncCounter;

  /**
   * With a counter that several processes share, the limits are those of all of them together. `principals` counts the
   * tunnels of each principal; by default `counter` does.
   */
  constructor(counter: Counter = ownCounter(), principals: AsyncCounter = asyncCounter(counter)) {
    this.#counter = counter;
    this.#principals = principals;
  }

  /** Counts an offer from an address. Throws `LIMIT_TUNNELS`, `LIMIT_ADDRESS`. Returns the function that releases it. */
  acquireForAddress(address: string, limits: Limits): () => void {
    return this.#acquireAt('offer', address, limits);
  }

  /**
   * Counts a request to resume a tunnel. These have limits of their own: the tunnel is counted already, and a client that
   * has all the tunnels it is allowed must still be able to resume them. Throws as `acquireForAddress` does.
   */
  acquireForResume(address: string, limits: Limits): () => void {
    return this.#acquireAt('resume', address, limits);
  }

  /**
   * Counts a tunnel of a principal. Resolves to the function that releases it. Rejects with `LIMIT_SUBJECT`, with
   * `STORE_UNAVAILABLE`, and as soon as `signal` aborts; whatever is counted after a rejection is released.
   */
  async acquireForPrincipal(
    { issuer, subject }: Pick<Principal, 'issuer' | 'subject'>,
    { perSubject }: Pick<Limits, 'perSubject'>,
    signal: AbortSignal,
  ): Promise<() => void> {
    const name = `subject ${JSON.stringify([issuer, subject])}`;
    const release = (): void => this.#principals.remove(name);
    const counting = this.#principals.add(name);
    let count: number;
    try {
      count = await withDeadline(signal, countingMs, () => counting, {
        onTimeout: () =>
          new TunnelError('STORE_UNAVAILABLE', 'the gateway could not count your tunnels in time'),
      });
    } catch (error) {
      void counting.then(release, () => {});
      throw error;
    }
    if (count <= perSubject) return release;
    release();
    throw refusals.subject();
  }

  #acquireAt(what: 'offer' | 'resume', address: string, limits: Limits): () => void {
    const releaseAll = this.#acquire(what, limits.tunnels, refusals.all);
    try {
      const releaseAddress = this.#acquire(
        `${what} ${addressBucket(address)}`,
        limits.perAddress,
        refusals.address,
      );
      return () => {
        releaseAddress();
        releaseAll();
      };
    } catch (error) {
      releaseAll();
      throw error;
    }
  }

  #acquire(name: string, limit: number, refusal: () => TunnelError): () => void {
    const count = this.#counter.add(name);
    const release = (): void => this.#counter.remove(name);
    if (count <= limit) return release;
    release();
    throw refusal();
  }
}

const refusals = {
  all: () => new TunnelError('LIMIT_TUNNELS', 'the gateway has reached its limit of tunnels'),
  address: () => new TunnelError('LIMIT_ADDRESS', 'too many tunnels from your address'),
  subject: () => new TunnelError('LIMIT_SUBJECT', 'you have too many tunnels open'),
};

/** A customer's network counts as one address: an IPv4 address, or the /64 of an IPv6 address (RFC 6177). */
function addressBucket(address: string): string {
  if (!ipaddr.IPv6.isValid(address)) return address;
  return ipaddr.IPv6.parse(address).parts.slice(0, 4).join(':');
}
