import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { quote } from '../../protocol/target.ts';

/** A range of addresses. `bytes` is the first of them, 4 or 16. */
export interface Cidr {
  readonly bytes: readonly number[];
  readonly prefix: number;
  readonly text: string;
}

/** The bytes of a literal address, 4 or 16; undefined when `net.isIP` rejects it or it has a zone. */
export function addressBytes(text: string): readonly number[] | undefined {
  // ipaddr.js alone would read 0177.1 and the like; the forms that net.isIP accepts have one meaning only.
  const family = isIP(text);
  if (family === 0 || text.includes('%')) return undefined;
  // It also reads ::10.0.0.5 as ::ffff:10.0.0.5, which is another address: pass it all IPv6 in hexadecimal.
  return ipaddr.parse(family === 6 ? new URL(`http://[${text}]/`).hostname.slice(1, -1) : text).toByteArray();
}

/**
 * Parses `address/prefix` or a single `address`. Throws `RangeError` with a message for people.
 * Host bits must be zero, and IPv4 is written as IPv4: a range inside `::ffff:0:0/96` would never match.
 */
export function parseCidr(text: string): Cidr {
  const [, address = '', prefixText] = /^([^/]*)(?:\/(0|[1-9]\d{0,2}))?$/.exec(text) ?? [];
  const bytes = addressBytes(address);
  if (!bytes) throw new RangeError(`${quote(text)} is not an address range, such as 10.0.0.0/8`);
  const bits = bytes.length * 8;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  if (prefix > bits) throw new RangeError(`${quote(text)} has a prefix longer than ${bits}`);
  const first = bytes.map((byte, at) => byte & maskByte(prefix, at));
  const clean = `${ipaddr.fromByteArray([...first]).toString()}/${prefix}`;
  if (first.some((byte, at) => byte !== bytes[at])) {
    throw new RangeError(`${quote(text)} has bits set after its prefix; did you mean ${clean}?`);
  }
  if (prefix >= 96 && cidrContains(mapped, bytes)) {
    throw new RangeError(`${quote(text)} is an IPv4 range written as IPv6; write it as IPv4`);
  }
  return { bytes, prefix, text: clean };
}

/** Whether the address is in the range. Addresses of the other family never are. */
export function cidrContains(range: Cidr, address: readonly number[]): boolean {
  if (range.bytes.length !== address.length) return false;
  return range.bytes.every((byte, at) => byte === (address[at]! & maskByte(range.prefix, at)));
}

/** Whether every address of `inner` is in `outer`. */
export function cidrInside(inner: Cidr, outer: Cidr): boolean {
  return inner.prefix >= outer.prefix && cidrContains(outer, inner.bytes);
}

const mapped: Cidr = { bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0], prefix: 96, text: '' };

function maskByte(prefix: number, at: number): number {
  const bits = Math.min(8, Math.max(0, prefix - at * 8));
  return (0xff << (8 - bits)) & 0xff;
}

/**
 * What counts as one address in limits and summaries: an IPv4 address, or the /64 of an IPv6 address, which a customer's
 * network has at least (RFC 6177). Another text is itself.
 */
export function customerNetwork(address: string): string {
  if (!ipaddr.IPv6.isValid(address)) return address;
  const network = ipaddr.IPv6.parse(address).parts.slice(0, 4);
  return `${new ipaddr.IPv6([...network, 0, 0, 0, 0]).toString()}/64`;
}
