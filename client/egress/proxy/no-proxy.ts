import { BlockList, isIP } from 'node:net';
import type { Target } from '../../../protocol/target.ts';

/**
 * Whether a `NO_PROXY` list names the gateway: exact names, suffixes with or without a leading dot or `*.`,
 * addresses, CIDR blocks, each with an optional port, or `*` for everything.
 */
export function isExcepted(list: string, gateway: Target): boolean {
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((item) => item !== '' && covers(item, gateway));
}

function covers(item: string, gateway: Target): boolean {
  if (item === '*') return true;
  const { host, port } = splitPort(item);
  if (port !== undefined && Number(port) !== gateway.port) return false;
  const family = isIP(gateway.host);
  if (host.includes('/')) return family !== 0 && inBlock(host, gateway.host);
  if (isIP(host) !== 0)
    return family !== 0 && inBlock(`${host}/${isIP(host) === 6 ? 128 : 32}`, gateway.host);
  const suffix = host.replace(/^\*?\./, '').replace(/\.$/, '');
  const name = gateway.host.replace(/\.$/, '');
  return family === 0 && suffix !== '' && (name === suffix || name.endsWith(`.${suffix}`));
}

function splitPort(item: string): { readonly host: string; readonly port: string | undefined } {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(item);
  if (bracketed) return { host: bracketed[1]!, port: bracketed[2] };
  // More than one colon is an address without brackets.
  const named = /^([^:]*):(\d+)$/.exec(item);
  return named ? { host: named[1]!, port: named[2] } : { host: item, port: undefined };
}

function inBlock(block: string, address: string): boolean {
  const [network = '', bits = ''] = block.split('/');
  const family = isIP(network);
  if (family === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > (family === 6 ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(network, Number(bits), family === 6 ? 'ipv6' : 'ipv4');
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}
