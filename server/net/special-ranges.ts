import { cidrContains, parseCidr } from './cidr.ts';
import type { Cidr } from './cidr.ts';

/** The kind of a special address. */
export type SpecialKind =
  | 'loopback'
  | 'unspecified'
  | 'link-local'
  | 'site-local'
  | 'metadata'
  | 'multicast'
  | 'broadcast'
  | 'reserved'
  | 'documentation'
  | 'benchmark'
  | 'relay';

/** A range that is refused unless the operator lists a range inside it. */
export interface SpecialRange {
  readonly kind: SpecialKind;
  readonly range: Cidr;
}

/**
 * Ranges that are not ordinary unicast (IANA special-purpose registries, RFC 6890), and the addresses at which clouds
 * give credentials to any program on a machine. Private ranges are ordinary: targets have such addresses.
 */
const special: Record<SpecialKind, readonly string[]> = {
  loopback: ['127.0.0.0/8', '::1'],
  unspecified: ['0.0.0.0/8', '::'],
  'link-local': ['169.254.0.0/16', 'fe80::/10'],
  'site-local': ['fec0::/10'],
  metadata: [
    // EC2, GCE, Azure, OpenStack; ECS tasks; EKS pods
    '169.254.169.254',
    '169.254.170.2',
    '169.254.170.23',
    // Alibaba; Azure's wire server; Oracle
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
    // EC2 and EKS; GCE
    'fd00:ec2::/32',
    'fd20:ce::254',
  ],
  multicast: ['224.0.0.0/4', 'ff00::/8'],
  broadcast: ['255.255.255.255'],
  // Includes AS112 and AMT, which any operator can announce, and ORCHID.
  reserved: [
    '192.0.0.0/24',
    '192.31.196.0/24',
    '192.52.193.0/24',
    '192.175.48.0/24',
    '240.0.0.0/4',
    '2001:10::/28',
    '2001:20::/28',
  ],
  documentation: ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', '2001:db8::/32', '3fff::/20'],
  benchmark: ['198.18.0.0/15', '2001:2::/48'],
  // 6to4, Teredo and local NAT64: somewhere the packets are translated to another address.
  relay: ['192.88.99.0/24', '2002::/16', '2001::/32', '64:ff9b:1::/48'],
};

/** Every special range; an address can be in several. */
export const specialRanges: readonly SpecialRange[] = Object.entries(special).flatMap(([kind, ranges]) =>
  ranges.map((range) => ({ kind: kind as SpecialKind, range: parseCidr(range) })),
);

// RFC 6052 §2.1, RFC 8215; global unicast; RFC 4193.
const unicast = ['0.0.0.0/0', '64:ff9b::/96', '64:ff9b:1::/48', '2000::/3', 'fc00::/7'].map(parseCidr);

/**
 * Whether the address lies in assigned space, special or not. An address that does not cannot be opened by listing it: it
 * is unassigned, or of a deprecated form, such as `::127.0.0.1`.
 */
export function isAssigned(bytes: readonly number[]): boolean {
  return (
    unicast.some((range) => cidrContains(range, bytes)) ||
    specialRanges.some(({ range }) => cidrContains(range, bytes))
  );
}

/** A scheme by which an IPv6 address embeds an IPv4 address that a router or a tunnel extracts. */
interface Embedding {
  readonly range?: Cidr;
  readonly extract: (bytes: readonly number[]) => readonly (readonly number[])[];
}

const embeddings: readonly Embedding[] = [
  { range: parseCidr('64:ff9b::/96'), extract: (b) => [b.slice(12)] },
  { range: parseCidr('64:ff9b:1::/48'), extract: extractLocalNat64 },
  { range: parseCidr('2002::/16'), extract: (b) => [b.slice(2, 6)] },
  // RFC 4380 §4: the server, and the client with every bit inverted.
  { range: parseCidr('2001::/32'), extract: (b) => [b.slice(4, 8), b.slice(12).map((byte) => byte ^ 0xff)] },
  { extract: extractIsatap },
];

/** The IPv4 addresses embedded in an IPv6 address, by any scheme that a router might follow. */
export function embeddedIpv4(bytes: readonly number[]): readonly (readonly number[])[] {
  if (bytes.length !== 16) return [];
  return embeddings
    .filter(({ range }) => !range || cidrContains(range, bytes))
    .flatMap(({ extract }) => extract(bytes));
}

/** `::ffff:a.b.c.d` is the IPv4 address itself, since the kernel dials it as such; other addresses stay as they are. */
export function unmapped(bytes: readonly number[]): readonly number[] {
  const zeros = bytes.slice(0, 10).every((byte) => byte === 0);
  return bytes.length === 16 && zeros && bytes[10] === 0xff && bytes[11] === 0xff ? bytes.slice(12) : bytes;
}

/** The network chooses the length of the prefix (RFC 6052 §2.2: /48, /56, /64 or /96); the bytes after the address are zero. */
function extractLocalNat64(b: readonly number[]): readonly (readonly number[])[] {
  const readings = [
    { bytes: [b[6]!, b[7]!, b[9]!, b[10]!], rest: b.slice(11) },
    { bytes: [b[7]!, b[9]!, b[10]!, b[11]!], rest: b.slice(12) },
    { bytes: b.slice(9, 13), rest: b.slice(13) },
    { bytes: b.slice(12), rest: [] },
  ];
  const fitting = readings.filter(({ rest }) => rest.every((byte) => byte === 0)).map(({ bytes }) => bytes);
  return fitting.filter((bytes) => bytes.some((byte) => byte !== 0));
}

/** RFC 5214 §6.1: an interface identifier that begins with 0000:5efe or 0200:5efe, under any prefix. */
function extractIsatap(b: readonly number[]): readonly (readonly number[])[] {
  const marked = (b[8]! & 0xfd) === 0 && b[9] === 0 && b[10] === 0x5e && b[11] === 0xfe;
  return marked ? [b.slice(12)] : [];
}
