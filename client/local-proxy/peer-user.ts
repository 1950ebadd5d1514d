import { closeSync, openSync, readSync } from 'node:fs';
import type { Socket } from 'node:net';
import { endianness } from 'node:os';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

/** The owner of the other end of a loopback connection: this user or root, another user, or unknown. */
export type PeerOwner = 'own' | 'other' | 'unknown';

/** The share of time that readings take in the long run; a burst of `freeMs` is free, and no wait is longer than `maxPauseMs`. */
const share = 0.2;
const freeMs = 30;
const maxPauseMs = 100;

/** Finds the user of a connected program in the kernel's socket tables (proc(5), /proc/net/tcp). Only Linux has them. */
export class PeerUser {
  readonly #paths: readonly string[];
  #next: Promise<readonly Table[]> | undefined;
  #spent = { ms: 0, at: 0 };

  constructor(paths: readonly string[] = ['/proc/net/tcp', '/proc/net/tcp6']) {
    this.#paths = paths;
  }

  /** Whether the tables can be read. */
  async isSupported(): Promise<boolean> {
    return process.getuid !== undefined && (await this.#tables()).some((table) => table().length > 0);
  }

  async ownerOf(socket: Socket): Promise<PeerOwner> {
    const ends = endsOf(socket);
    if (process.getuid === undefined || ends === undefined) return 'unknown';
    let isKnown = false;
    for (const table of await this.#tables()) {
      const rows = table();
      isKnown ||= rows.length > 0;
      const uid = ownerOf(rows, ends);
      if (uid !== undefined) return uid === process.getuid() || uid === 0 ? 'own' : 'other';
    }
    return isKnown ? 'other' : 'unknown';
  }

  /** The tables as they are after this call; one reading serves all connections that arrive in the meantime. */
  #tables(): Promise<readonly Table[]> {
    this.#next ??= this.#begin();
    return this.#next;
  }

  /** With thousands of connections on the machine a reading takes milliseconds: hundreds of new ones share a few readings. */
  async #begin(): Promise<readonly Table[]> {
    const pauseMs = (this.#owedMs() - freeMs) / share;
    await (pauseMs > 0 ? delay(Math.min(pauseMs, maxPauseMs)) : nextTurn());
    this.#next = undefined;
    return this.#paths.map((path) => {
      let rows: Buffer | undefined;
      return () => (rows ??= this.#read(path));
    });
  }

  #read(path: string): Buffer {
    const startedAt = performance.now();
    try {
      return readAll(path);
    } catch {
      return Buffer.alloc(0);
    } finally {
      const endedAt = performance.now();
      this.#spent = { ms: this.#owedMs() + endedAt - startedAt, at: endedAt };
    }
  }

  /** Time that readings have taken beyond their share, in milliseconds. */
  #owedMs(): number {
    const { ms, at } = this.#spent;
    return Math.max(0, ms - (performance.now() - at) * share);
  }
}

/** Reads a table at the first call. */
type Table = () => Buffer;

/** Reads synchronously: the kernel returns a page at a time, and a thread switch per page takes longer than the read. */
function readAll(path: string): Buffer {
  const file = openSync(path, 'r');
  try {
    let bytes = Buffer.allocUnsafe(64 * 1024);
    for (let length = 0; ;) {
      if (length === bytes.length) bytes = Buffer.concat([bytes], 2 * length);
      const count = readSync(file, bytes, length, bytes.length - length, null);
      if (count === 0) return bytes.subarray(0, length);
      length += count;
    }
  } finally {
    closeSync(file);
  }
}

/** Both ends of a connection as the other side sees them. */
interface Ends {
  readonly local: readonly [address: string, port: number];
  readonly remote: readonly [address: string, port: number];
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): Ends | undefined {
  if (remoteAddress === undefined || localAddress === undefined) return undefined;
  return { local: [remoteAddress, remotePort!], remote: [localAddress, localPort!] };
}

/**
 * The user whose open socket has these ends, in rows like `0: 0100007F:0438 0100007F:A0C4 01 … 1000 0 5678 …`; undefined
 * when there is none.
 */
export function ownerOf(rows: Buffer, { local, remote }: Ends): number | undefined {
  const [from, to] = [local, remote].map(([address, port]) => {
    const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
    return words(address).map((each) => `${each}:${hexPort}`);
  });
  for (const [at, each] of from!.entries()) {
    const found = rows.indexOf(` ${each} ${to![at]!} `, 0, 'latin1');
    if (found === -1) continue;
    const fields = rows.toString('latin1', found + 1, rows.indexOf('\n', found)).split(/ +/);
    const [uid, inode] = [fields[6], fields[8]];
    // A socket that no process holds any more has inode 0 and no owner.
    return /^\d+$/.test(uid ?? '') && inode !== '0' ? Number(uid) : undefined;
  }
  return undefined;
}

/** The notations of an address in the tables: in the byte order of the processor, and IPv4 also as IPv4-mapped IPv6. */
function words(address: string): readonly string[] {
  if (address === '::1') return [`${'0'.repeat(24)}${word([0, 0, 0, 1])}`];
  const ipv4 = word(
    address
      .replace(/^::ffff:/i, '')
      .split('.')
      .map(Number),
  );
  return [ipv4, `${'0'.repeat(16)}${word([0, 0, 255, 255])}${ipv4}`];
}

function word(bytes: readonly number[]): string {
  const inOrder = endianness() === 'LE' ? bytes.toReversed() : bytes;
  return Buffer.from(inOrder).toString('hex').toUpperCase();
}
