import { Buffer } from 'node:buffer';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIP } from 'node:net';
import type { TestContext } from 'node:test';

/** What the server says to a question: addresses of any family with a TTL, a response code, or nothing at all. */
export type DnsAnswer =
  | { readonly addresses: readonly string[]; readonly ttlSeconds?: number; readonly cname?: string }
  | 'NXDOMAIN'
  | 'SERVFAIL'
  | 'REFUSED'
  | 'silence';

export interface DnsServer {
  /** `address:port`, as `network.nameServers` takes it. */
  readonly address: string;
  /** Every question asked, as `name A` or `name AAAA`. */
  readonly asked: readonly string[];
}

const codes = { SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;
const types: Readonly<Record<number, string>> = { 1: 'A', 28: 'AAAA' };

/** A name server on loopback that ends with the test (RFC 1035 §4, UDP, one question at a time). */
export async function startDnsServer(
  t: TestContext,
  answer: (name: string, type: string) => DnsAnswer,
): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const asked: string[] = [];
  socket.on('message', (query, from) => {
    const { name, type, end } = readQuestion(query);
    asked.push(`${name} ${type}`);
    const given = answer(name, type);
    if (given !== 'silence') socket.send(formatAnswer(query, end, { given, type }), from.port, from.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  return { address: `127.0.0.1:${socket.address().port}`, asked };
}

function readQuestion(query: Buffer): { name: string; type: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (; query[at] !== 0; at += query[at]! + 1)
    labels.push(query.toString('ascii', at + 1, at + 1 + query[at]!));
  return {
    name: labels.join('.').toLowerCase(),
    type: types[query.readUInt16BE(at + 1)] ?? '?',
    end: at + 5,
  };
}

interface Given {
  readonly given: Exclude<DnsAnswer, 'silence'>;
  readonly type: string;
}

function formatAnswer(query: Buffer, end: number, { given, type }: Given): Buffer {
  const records = typeof given === 'string' ? [] : formatRecords(given, type);
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  // An answer, recursion desired and available.
  head.writeUInt16BE(0x8180 | (typeof given === 'string' ? codes[given] : 0), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(records.length, 6);
  return Buffer.concat([head, query.subarray(12, end), ...records]);
}

function formatRecords(given: Exclude<DnsAnswer, string>, type: string): Buffer[] {
  const family = type === 'A' ? 4 : 6;
  const ttl = given.ttlSeconds ?? 60;
  const fit = given.addresses.filter((address) => isIP(address) === family);
  const questionName = Buffer.from([0xc0, 12]);
  const owner = given.cname === undefined ? questionName : formatName(given.cname);
  const alias = given.cname === undefined ? [] : [formatRecord(questionName, 5, ttl, owner)];
  return [
    ...alias,
    ...fit.map((address) => formatRecord(owner, family === 4 ? 1 : 28, ttl, formatAddress(address))),
  ];
}

// A record has four parts on the wire.
// oxlint-disable-next-line max-params
function formatRecord(owner: Buffer, type: number, ttl: number, data: Buffer): Buffer {
  const fixed = Buffer.alloc(10);
  fixed.writeUInt16BE(type, 0);
  fixed.writeUInt16BE(1, 2);
  fixed.writeUInt32BE(ttl, 4);
  fixed.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, fixed, data]);
}

function formatName(name: string): Buffer {
  const labels = name
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.from([0])]);
}

function formatAddress(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [left = '', right = ''] = address.split('::');
  const gap = address.includes('::') ? 8 - words(left).length - words(right).length : 0;
  const all = [...words(left), ...Array.from({ length: gap }, () => '0'), ...words(right)];
  return Buffer.from(all.map((word) => word.padStart(4, '0')).join(''), 'hex');
}

function words(text: string): readonly string[] {
  return text === '' ? [] : text.split(':');
}
