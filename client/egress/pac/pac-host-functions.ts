import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { waitForAddresses } from './name-lookups.ts';
import type { LookupChannel } from './name-lookups.ts';

/** The facts for the functions that concern this machine. */
export interface HostFacts {
  /** The addresses of this machine from which packets to the internet go, that of IPv4 first. */
  readonly ownAddresses: readonly string[];
  readonly lookups: LookupChannel;
}

/** A function of the host for PAC files: of its arguments, those that are neither text, numbers nor booleans are undefined. */
type HostFunction = (...values: readonly unknown[]) => string | boolean | null | undefined;

/**
 * The functions of PAC files that need the network or this machine. All of them are synchronous, as in browsers, with the
 * results that Chromium gives for odd arguments too.
 */
export function hostFunctions({ ownAddresses, lookups }: HostFacts): Readonly<Record<string, HostFunction>> {
  const addressesOf = (host: string, family: 4 | 0): readonly string[] => {
    // Not every system's own lookup knows them (RFC 6761 section 6.3).
    if (/(?:^|\.)localhost\.?$/i.test(host)) return family === 4 ? ['127.0.0.1'] : ['::1', '127.0.0.1'];
    return host === '' || (family === 4 && isIPv6(host)) ? [] : waitForAddresses(lookups, { host, family });
  };
  return {
    alert: () => undefined,
    myIpAddress: () => ownAddresses[0] ?? '127.0.0.1',
    myIpAddressEx: () => ownAddresses.join(';'),
    dnsResolve: (host) => (typeof host === 'string' ? (addressesOf(host, 4)[0] ?? null) : null),
    dnsResolveEx: (host) =>
      typeof host === 'string' ? addressesOf(host, 0).map(canonical).join(';') : undefined,
    isPlainHostName(host) {
      if (typeof host !== 'string') throw new TypeError('isPlainHostName() takes a text');
      return !host.includes('.') && !ipaddr.isValid(host);
    },
    isInNetEx(address, range) {
      if (typeof address !== 'string' || typeof range !== 'string') return null;
      return isInRange(address, range.trim());
    },
    sortIpAddressList: (list) => (typeof list === 'string' ? sorted(list) : null),
  };
}

function canonical(address: string): string {
  return parse(address)?.toString() ?? address;
}

function isInRange(address: string, range: string): boolean {
  const [, network, bits] = /^([^/]+)\/(\d{1,3})$/.exec(range) ?? [];
  const [one, two] = [parse(address), network === undefined ? undefined : parse(network)];
  if (one === undefined || two === undefined || Number(bits) > two.toByteArray().length * 8) return false;
  if (one.kind() === two.kind()) return matches(one, two, Number(bits));
  return matches(mapped(one), mapped(two), Number(bits) + (two.kind() === 'ipv4' ? 96 : 0));
}

function mapped(ip: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv6 {
  return 'toIPv4MappedAddress' in ip ? ip.toIPv4MappedAddress() : ip;
}

function matches(
  address: ipaddr.IPv4 | ipaddr.IPv6,
  network: ipaddr.IPv4 | ipaddr.IPv6,
  bits: number,
): boolean {
  return address.match(network, bits);
}

/** The addresses of a list, those of IPv6 first, or false when something else is in it. */
function sorted(list: string): string | false {
  const texts = list.split(';').flatMap((each) => each.trim() || []);
  const parsed = texts.flatMap((text) => {
    const address = parse(text);
    return address === undefined ? [] : [{ text, bytes: Buffer.from(address.toByteArray()) }];
  });
  if (parsed.length === 0 || parsed.length < texts.length) return false;
  parsed.sort((one, two) => two.bytes.length - one.bytes.length || Buffer.compare(one.bytes, two.bytes));
  return parsed.map(({ text }) => text).join(';');
}

function parse(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  return ipaddr.isValid(text) && !text.includes('%') ? ipaddr.parse(text) : undefined;
}
