import { createHash } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { readSmall } from './files.ts';

/** More routes than a laptop has; a router with all of the internet is no client. */
const maxRoutesBytes = 64 * 1024;

/**
 * Names the network this machine is in, to remember by it what worked there: the same text in the same network, another
 * one nearly always in another. Made of the networks of its interfaces and, on Linux, of the default gateway. Says
 * nothing about the network to a reader.
 */
export function networkId(): string {
  const parts = [...networks(), ...defaultGateways()].toSorted();
  return createHash('sha256').update(parts.join(' ')).digest('base64url').slice(0, 16);
}

/** Without the part that a new lease or a privacy address changes. */
function networks(): string[] {
  try {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4')
      .map(({ address, netmask }) => masked(address, netmask));
  } catch {
    // Some sandboxes do not tell.
    return [];
  }
}

function masked(address: string, netmask: string): string {
  const mask = netmask.split('.').map(Number);
  return address
    .split('.')
    .map((byte, at) => Number(byte) & (mask[at] ?? 255))
    .join('.');
}

/** In the hexadecimal of `/proc/net/route`; none elsewhere. */
function defaultGateways(): string[] {
  try {
    const routes = readSmall('/proc/net/route', maxRoutesBytes).bytes.toString();
    return routes
      .split('\n')
      .map((line) => line.split('\t'))
      .filter(([, destination]) => destination === '00000000')
      .map(([, , gateway]) => `via ${gateway}`);
  } catch {
    return [];
  }
}
