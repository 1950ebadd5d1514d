import { networkInterfaces } from 'node:os';
import ipaddr from 'ipaddr.js';
import type { ListenAddress, NetworkConfig } from '../config/config.ts';
import { addressBytes, cidrContains, cidrInside, parseCidr } from '../net/cidr.ts';
import type { Cidr } from '../net/cidr.ts';
import { embeddedIpv4, isAssigned, specialRanges, unmapped } from '../net/special-ranges.ts';

/** The decision whether an address is allowed to be dialled, with its reason. */
export interface AddressDecision {
  readonly allowed: boolean;
  /** For the operator: it names ranges, which the caller must not see. */
  readonly why: string;
}

/** Evaluates a literal address just before it is dialled. */
export type AddressCheck = (address: string, port: number) => AddressDecision;

export interface AddressCheckOptions {
  readonly network: NetworkConfig;
  /** Where the gateway itself listens: never dialled. Read at each check, so it can grow once ports are known. */
  readonly ownAddresses: readonly ListenAddress[];
}

/**
 * The network policy: an address that a non-empty `allow` does not list is refused, `deny` wins, and a special range
 * (loopback, metadata …) is closed unless `allow` lists a range wholly inside it. Throws `RangeError` for a range that
 * cannot be read.
 */
export function addressCheck({ network, ownAddresses }: AddressCheckOptions): AddressCheck {
  const allow = network.allow.map(parseCidr);
  const deny = network.deny.map(parseCidr);

  return (address, port) => {
    const literal = addressBytes(address);
    if (!literal) return refused('it is not an address');
    const bytes = unmapped(literal);
    if (ownAddresses.some((own) => isOwn(own, bytes, port)))
      return refused('the gateway itself listens there');
    const listed = allow.find((range) => cidrContains(range, bytes));
    if (allow.length > 0 && !listed) return refused('network.allow does not list it');
    for (const layer of [bytes, ...embeddedIpv4(bytes)]) {
      const refusal = evaluateLayer(layer, { allow, deny });
      if (refusal) return refused(layer === bytes ? refusal : `${spell(layer)} inside it: ${refusal}`);
    }
    return {
      allowed: true,
      why: listed ? `network.allow lists ${listed.text}` : 'it is an ordinary address',
    };
  };
}

interface Ranges {
  readonly allow: readonly Cidr[];
  readonly deny: readonly Cidr[];
}

/** The reason for which an address is closed, whatever its form; undefined when it is open. */
function evaluateLayer(bytes: readonly number[], { allow, deny }: Ranges): string | undefined {
  const denied = deny.find((range) => cidrContains(range, bytes));
  if (denied) return `network.deny lists ${denied.text}`;
  if (!isAssigned(bytes)) return 'it is reserved';
  // Every special range around it must be opened: 169.254.0.0/16 opens link-local, but not the metadata address in it.
  const closed = specialRanges.find(
    ({ range }) =>
      cidrContains(range, bytes) && !allow.some((a) => cidrContains(a, bytes) && cidrInside(a, range)),
  );
  return closed && `it is ${closed.kind} (${closed.range.text}), and network.allow lists no part of that`;
}

function isOwn(own: ListenAddress, bytes: readonly number[], port: number): boolean {
  if (own.kind !== 'tcp' || own.port !== port) return false;
  // Dialling the unspecified address reaches any listener of this machine.
  if (bytes.every((byte) => byte === 0)) return true;
  const host = addressBytes(own.host);
  if (!host) return isLocal(bytes);
  return host.every((byte) => byte === 0) ? isLocal(bytes) : equal(unmapped(host), bytes);
}

function isLocal(bytes: readonly number[]): boolean {
  if (bytes.length === 4 && bytes[0] === 127) return true;
  const interfaces = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const local = interfaces.map(({ address }) => addressBytes(address.split('%')[0]!));
  return local.some((each) => each !== undefined && equal(each, bytes));
}

function equal(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function spell(bytes: readonly number[]): string {
  return ipaddr.fromByteArray([...bytes]).toString();
}

function refused(why: string): AddressDecision {
  return { allowed: false, why };
}
