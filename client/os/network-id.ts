import { createHash } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { readSmall } from './files.ts';

/** More routes than a laptop has; a router with a full table is not a client. */
const maxRoutesBytes = 64 * 1024;

/**
 * Identifies the network this machine is in, as a key for what worked there: the same text in the same network, nearly
 * always another one in another. A hash of the networks of its interfaces and, on Linux, of the default gateway, which
 * reveals nothing about the network.
 */
export function networkId(): string {
  const parts = [...networks(), ...defaultGateways()].toSorted();
  return createHash('sha256').update(parts.join(' ')).digest('base64url').slice(0, 16);
}

/** The networks of the interfaces, without the part that a new lease or a privacy address changes. */
function networks(): string[] {
  try {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4')
      .map(({ address, netmask }) => masked(address, netmask));
  } catch {
    // Some sandboxes do not allow it.
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

/** The default gateways in the hexadecimal of `/proc/net/route`; none on other systems. */
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
