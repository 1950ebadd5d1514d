import { isIPv4, isIPv6 } from 'node:net';
import type { Target } from '../../../protocol/target.ts';

// SOCKS 4, 4a and 5 (RFC 1928, RFC 1929) as bytes.

/** The method selection message: no authentication, and with a password also that of RFC 1929. */
export function greeting5(hasPassword: boolean): Buffer {
  return Buffer.from(hasPassword ? [5, 2, 0, 2] : [5, 1, 0]);
}

/** The method that the proxy selected. Throws `RangeError` for a reply that is not SOCKS 5. */
export function readChoice5(reply: Buffer): 'nothing' | 'password' | 'something else' {
  if (reply[0] !== 5) throw new RangeError('it does not speak SOCKS 5');
  if (reply[1] === 0) return 'nothing';
  return reply[1] === 2 ? 'password' : 'something else';
}

/** User name and password (RFC 1929). Throws `RangeError` when one is too long. */
export function signIn5(user: string, password: string): Buffer {
  const parts = [user, password].map((text) => Buffer.from(text));
  if (parts.some(({ length }) => length < 1 || length > 255))
    throw new RangeError('user names and passwords in SOCKS 5 have 1 to 255 bytes');
  return Buffer.concat([Buffer.from([1]), ...parts.flatMap((part) => [Buffer.from([part.length]), part])]);
}

/** A CONNECT request. The proxy resolves a host name. */
export function request5({ host, port }: Target): Buffer {
  return Buffer.concat([Buffer.from([5, 1, 0]), address5(host), portBytes(port)]);
}

function address5(host: string): Buffer {
  if (isIPv4(host)) return Buffer.from([1, ...bytes4(host)]);
  if (isIPv6(host)) return Buffer.from([4, ...bytes6(host)]);
  const name = Buffer.from(host);
  if (name.length > 255) throw new RangeError('host names in SOCKS 5 have at most 255 bytes');
  return Buffer.concat([Buffer.from([3, name.length]), name]);
}

/** Bytes of a reply up to the one that determines its length. */
export const head5Bytes = 5;

/** Bytes of a reply after its head. Throws `RangeError` for a reply that is not SOCKS 5. */
export function rest5([, , , type, length = 0]: Buffer): number {
  // One byte of the address has been read with the head, or its length.
  if (type === 1) return 4 - 1 + 2;
  if (type === 4) return 16 - 1 + 2;
  if (type === 3) return length + 2;
  throw new RangeError('its reply has an unknown address type');
}

const words5: Readonly<Record<number, string>> = {
  1: 'it failed',
  2: 'its rules do not allow it',
  3: 'it has no route there',
  4: 'it cannot reach the host',
  5: 'the connection was refused there',
  6: 'the host did not answer',
  7: 'it does not support CONNECT',
  8: 'it does not support this address type',
};

/** The reason of a refusal, or undefined when the proxy has connected; two bytes suffice. Throws `RangeError` for a reply that is not SOCKS 5. */
export function refusal5([version, code = 1]: Buffer): string | undefined {
  if (version !== 5) throw new RangeError('it does not speak SOCKS 5');
  return code === 0 ? undefined : (words5[code] ?? `code ${code}`);
}

/** A SOCKS 4 request for an IPv4 address, or a SOCKS 4a request for a name. Throws `RangeError` for other targets. */
export function request4({ host, port }: Target, user: string): Buffer {
  if (isIPv6(host)) throw new RangeError('SOCKS 4 does not support IPv6');
  if (`${user}${host}`.includes('\0')) throw new RangeError('SOCKS 4 does not allow a zero byte');
  // 0.0.0.x announces a name.
  const address = isIPv4(host) ? bytes4(host) : [0, 0, 0, 1];
  const name = isIPv4(host) ? [] : [Buffer.from(`${host}\0`)];
  return Buffer.concat([
    Buffer.from([4, 1]),
    portBytes(port),
    Buffer.from(address),
    Buffer.from(`${user}\0`),
    ...name,
  ]);
}

/** Bytes of a SOCKS 4 reply. */
export const reply4Bytes = 8;

const words4: Readonly<Record<number, string>> = {
  91: 'it refused, or it failed',
  92: 'it cannot reach an identd here',
  93: 'identd here names another user',
};

/** The reason of a refusal, or undefined when the proxy has connected. Throws `RangeError` for a reply that is not SOCKS 4. */
export function refusal4(reply: Buffer): string | undefined {
  const [version, code] = reply;
  if (version !== 0) throw new RangeError('it does not speak SOCKS 4');
  return code === 90 ? undefined : (words4[code!] ?? `code ${code}`);
}

function portBytes(port: number): Buffer {
  return Buffer.from([port >> 8, port & 255]);
}

function bytes4(host: string): number[] {
  return host.split('.').map(Number);
}

function bytes6(host: string): number[] {
  const [head = '', tail] = withoutQuad(host).split('::');
  const [left, right] = [groups(head), groups(tail ?? '')];
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<number>(zeros).fill(0), ...right].flatMap((group) => [group >> 8, group & 255]);
}

/** `::ffff:10.0.0.1` with its end as two groups. */
function withoutQuad(host: string): string {
  const quad = /(?<=:)\d+\.\d+\.\d+\.\d+$/.exec(host)?.[0];
  if (quad === undefined) return host;
  const [a, b, c, d] = bytes4(quad) as [number, number, number, number];
  return `${host.slice(0, -quad.length)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

function groups(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
}
