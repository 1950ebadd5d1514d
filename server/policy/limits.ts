import ipaddr from 'ipaddr.js';
import { TunnelError } from '../../protocol/errors.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Limits } from '../config/config.ts';

/** Counts tunnels, and offers that may become tunnels, against the configured limits. */
export class TunnelCounts {
  readonly #offers: AddressCounts = { total: 0, byAddress: new Map() };
  readonly #rejoins: AddressCounts = { total: 0, byAddress: new Map() };
  readonly #bySubject = new Map<string, number>();

  /** Counts an offer from an address. Throws `LIMIT_TUNNELS`, `LIMIT_ADDRESS`. Returns what uncounts it. */
  enterFrom(address: string, limits: Limits): () => void {
    return enterAt(this.#offers, address, limits);
  }

  /**
   * Counts a request to go on with a tunnel, which is counted already: among its like only, or whoever has all the
   * tunnels that are allowed could not keep them. Throws as `enterFrom` does.
   */
  enterAgainFrom(address: string, limits: Limits): () => void {
    return enterAt(this.#rejoins, address, limits);
  }

  /** Counts a tunnel of a principal. Throws `LIMIT_SUBJECT`. Returns what uncounts it. */
  enterAs(principal: Principal, limits: Limits): () => void {
    const key = JSON.stringify([principal.issuer, principal.subject]);
    return enter(this.#bySubject, key, limits.perSubject, 'LIMIT_SUBJECT', 'you have too many tunnels open');
  }
}

interface AddressCounts {
  total: number;
  readonly byAddress: Map<string, number>;
}

function enterAt(counts: AddressCounts, address: string, limits: Limits): () => void {
  if (counts.total >= limits.tunnels)
    throw new TunnelError('LIMIT_TUNNELS', 'the gateway has all the tunnels it may have');
  const leave = enter(
    counts.byAddress,
    neighbourhood(address),
    limits.perAddress,
    'LIMIT_ADDRESS',
    'too many tunnels from your address',
  );
  counts.total++;
  return () => {
    counts.total--;
    leave();
  };
}

/** One network of a customer counts as one address: an IPv4 address, or the /64 of an IPv6 one (RFC 6177). */
function neighbourhood(address: string): string {
  if (!ipaddr.IPv6.isValid(address)) return address;
  return ipaddr.IPv6.parse(address).parts.slice(0, 4).join(':');
}

function enter(
  counts: Map<string, number>,
  key: string,
  limit: number,
  code: 'LIMIT_ADDRESS' | 'LIMIT_SUBJECT',
  message: string,
): () => void {
  const count = counts.get(key) ?? 0;
  if (count >= limit) throw new TunnelError(code, message);
  counts.set(key, count + 1);
  return () => {
    const left = counts.get(key)! - 1;
    if (left === 0) counts.delete(key);
    else counts.set(key, left);
  };
}
