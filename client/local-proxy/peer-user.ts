import { closeSync, openSync, readSync } from 'node:fs';
import type { Socket } from 'node:net';
import { endianness } from 'node:os';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

/** Who is at the other end of a loopback connection: this user or root, somebody else, or nobody can say. */
export type PeerOwner = 'own' | 'other' | 'unknown';

/** In the long run readings take no more than this part of the time, but some at once are free, and nobody waits for long. */
const share = 0.2;
const freeMs = 30;
const maxPauseMs = 100;

/** Tells by the kernel's tables of sockets (proc(5), /proc/net/tcp) whose program has connected. Only Linux has them. */
export class PeerUser {
  readonly #paths: readonly string[];
  #next: Promise<readonly Table[]> | undefined;
  #spent = { ms: 0, at: 0 };

  constructor(paths: readonly string[] = ['/proc/net/tcp', '/proc/net/tcp6']) {
    this.#paths = paths;
  }

  /** Whether there is anything to tell by. */
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

  /** The tables as they are after this call; one reading serves all who have come in the meantime. */
  #tables(): Promise<readonly Table[]> {
    this.#next ??= this.#begin();
    return this.#next;
  }

  /** With thousands of connections on the machine a reading takes milliseconds: hundreds who come at once share some. */
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

  /** How much more time readings have taken than they may. */
  #owedMs(): number {
    const { ms, at } = this.#spent;
    return Math.max(0, ms - (performance.now() - at) * share);
  }
}

/** Reads a table when it is asked for the first time. */
type Table = () => Buffer;

/** The kernel gives a page at a time: asking for each from another thread takes longer than to wait for it. */
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

/** Both ends of a connection as the other side has them. */
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
    // A socket that no process has any more belongs to nobody, and its row says 0.
    return /^\d+$/.test(uid ?? '') && inode !== '0' ? Number(uid) : undefined;
  }
  return undefined;
}

/** An address as the tables may have it: in the words of the processor, and IPv4 also in the clothes of IPv6. */
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
