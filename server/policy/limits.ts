import ipaddr from 'ipaddr.js';
import { TunnelError } from '../../protocol/errors.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Limits } from '../config/config.ts';
import { ownCounter } from './counter.ts';
import type { Counter } from './counter.ts';

/** Counts tunnels, and offers that may become tunnels, against the configured limits. */
export class TunnelLimiter {
  readonly #counter: Counter;

  /** By a counter that several processes share the limits are those of all of them. */
  constructor(counter: Counter = ownCounter()) {
    this.#counter = counter;
  }

  /** Counts an offer from an address. Throws `LIMIT_TUNNELS`, `LIMIT_ADDRESS`. Returns what uncounts it. */
  acquireForAddress(address: string, limits: Limits): () => void {
    return this.#enterAt('offer', address, limits);
  }

  /**
   * Counts a request to go on with a tunnel, which is counted already: among its like only, or whoever has all the
   * tunnels that are allowed could not keep them. Throws as `acquireForAddress` does.
   */
  acquireForResume(address: string, limits: Limits): () => void {
    return this.#enterAt('rejoin', address, limits);
  }

  /** Counts a tunnel of a principal. Throws `LIMIT_SUBJECT`. Returns what uncounts it. */
  acquireForPrincipal({ issuer, subject }: Principal, { perSubject }: Limits): () => void {
    return this.#enter(`subject ${JSON.stringify([issuer, subject])}`, perSubject, tooMany.subject);
  }

  #enterAt(what: 'offer' | 'rejoin', address: string, limits: Limits): () => void {
    const leaveAll = this.#enter(what, limits.tunnels, tooMany.all);
    try {
      const leave = this.#enter(`${what} ${addressBucket(address)}`, limits.perAddress, tooMany.address);
      return () => {
        leave();
        leaveAll();
      };
    } catch (error) {
      leaveAll();
      throw error;
    }
  }

  #enter(name: string, limit: number, refusal: () => TunnelError): () => void {
    const count = this.#counter.add(name);
    const leave = (): void => this.#counter.remove(name);
    if (count <= limit) return leave;
    leave();
    throw refusal();
  }
}

const tooMany = {
  all: () => new TunnelError('LIMIT_TUNNELS', 'the gateway has all the tunnels it may have'),
  address: () => new TunnelError('LIMIT_ADDRESS', 'too many tunnels from your address'),
  subject: () => new TunnelError('LIMIT_SUBJECT', 'you have too many tunnels open'),
};

/** One network of a customer counts as one address: an IPv4 address, or the /64 of an IPv6 one (RFC 6177). */
function addressBucket(address: string): string {
  if (!ipaddr.IPv6.isValid(address)) return address;
  return ipaddr.IPv6.parse(address).parts.slice(0, 4).join(':');
}
