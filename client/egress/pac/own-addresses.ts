import { createSocket } from 'node:dgram';
import { networkInterfaces } from 'node:os';

/**
 * The addresses of this machine from which packets to the internet go, that of IPv4 first; where no route leads there, the
 * first address of an interface. Empty when there is none but loopback.
 */
export async function ownAddresses(): Promise<readonly string[]> {
  // Public addresses for documentation (RFC 5737, RFC 3849).
  const routed = await Promise.all([
    sourceAddress('udp4', '192.0.2.1'),
    sourceAddress('udp6', '2001:db8::1'),
  ]);
  const found = routed.filter((address) => address !== undefined);
  if (found.length > 0) return found;
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const first = all.find(({ internal, family }) => !internal && family === 'IPv4');
  return first === undefined ? [] : [first.address];
}

/** The source address of packets to `destination`; connecting a UDP socket sends none. */
function sourceAddress(type: 'udp4' | 'udp6', destination: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(type);
    const finish = (address: string | undefined): void => {
      socket.close();
      resolve(address);
    };
    socket.once('error', () => finish(undefined));
    socket.once('connect', () => finish(socket.address().address));
    socket.connect(53, destination);
  });
}
