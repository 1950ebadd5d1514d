import ipaddr from 'ipaddr.js';
import { TunnelError } from '../../protocol/errors.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Limits } from '../config/config.ts';

/** Counts tunnels, and offers that may become tunnels, against the configured limits. */
export class TunnelCounts {
  #total = 0;
  readonly #byAddress = new Map<string, number>();
  readonly #bySubject = new Map<string, number>();

  /** Counts an offer from an address. Throws `LIMIT_TUNNELS`, `LIMIT_ADDRESS`. Returns what uncounts it. */
  enterFrom(address: string, limits: Limits): () => void {
    if (this.#total >= limits.tunnels)
      throw new TunnelError('LIMIT_TUNNELS', 'the gateway has all the tunnels it may have');
    const leave = enter(
      this.#byAddress,
      neighbourhood(address),
      limits.perAddress,
      'LIMIT_ADDRESS',
      'too many tunnels from your address',
    );
    this.#total++;
    return () => {
      this.#total--;
      leave();
    };
  }

  /** Counts a tunnel of a principal. Throws `LIMIT_SUBJECT`. Returns what uncounts it. */
  enterAs(principal: Principal, limits: Limits): () => void {
    const key = JSON.stringify([principal.issuer, principal.subject]);
    return enter(this.#bySubject, key, limits.perSubject, 'LIMIT_SUBJECT', 'you have too many tunnels open');
  }
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
