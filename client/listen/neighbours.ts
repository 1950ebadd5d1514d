import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { endianness } from 'node:os';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';

/** Who is at the other end of a loopback connection: this user or root, somebody else, or nobody can say. */
export type Neighbour = 'own' | 'other' | 'unknown';

/** In the long run readings take no more than this part of the time, but some at once are free, and nobody waits for long. */
const share = 0.2;
const freeMs = 30;
const mostPauseMs = 100;

/** Tells by the kernel's tables of sockets (proc(5), /proc/net/tcp) whose program has connected. Only Linux has them. */
export class Neighbours {
  readonly #paths: readonly string[];
  #next: Promise<Owners> | undefined;
  #spent = { ms: 0, at: 0 };

  constructor(paths: readonly string[] = ['/proc/net/tcp', '/proc/net/tcp6']) {
    this.#paths = paths;
  }

  /** Whether there is anything to tell by. */
  async canTell(): Promise<boolean> {
    return process.getuid !== undefined && (await this.#owners()).size > 0;
  }

  async whose(socket: Socket): Promise<Neighbour> {
    const ends = endsOf(socket);
    if (process.getuid === undefined || ends === undefined) return 'unknown';
    const owners = await this.#owners();
    if (owners.size === 0) return 'unknown';
    const uid = ownerOf(owners, ends);
    return uid === process.getuid() || uid === 0 ? 'own' : 'other';
  }

  /** The tables as they are after this call; one reading serves all who have come in the meantime. */
  #owners(): Promise<Owners> {
    this.#next ??= this.#read();
    return this.#next;
  }

  /** With thousands of connections on the machine a reading takes milliseconds: hundreds who come at once share some. */
  async #read(): Promise<Owners> {
    const pauseMs = (this.#owedMs() - freeMs) / share;
    await (pauseMs > 0 ? delay(Math.min(pauseMs, mostPauseMs)) : nextTurn());
    this.#next = undefined;
    const startedAt = performance.now();
    const owners = readOwners(this.#paths.map((path) => read(path)).join(''));
    const endedAt = performance.now();
    this.#spent = { ms: this.#owedMs() + endedAt - startedAt, at: endedAt };
    return owners;
  }

  /** How much more time readings have taken than they may. */
  #owedMs(): number {
    const { ms, at } = this.#spent;
    return Math.max(0, ms - (performance.now() - at) * share);
  }
}

/** The kernel gives a page at a time: asking for each from another thread takes longer than to wait for it. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
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

/** The user of each open socket, by its local and remote end as the tables have them. */
export type Owners = ReadonlyMap<string, number>;

/** Reads rows like `0: 0100007F:0438 0100007F:A0C4 01 … 1000 0 5678 …`. */
export function readOwners(tables: string): Owners {
  const owners = new Map<string, number>();
  for (const row of tables.split('\n')) {
    const [, local, remote, , , , , uid, , inode] = row.trimStart().split(/ +/);
    // A socket that no process has any more belongs to nobody, and its row says 0.
    if (/^\d+$/.test(uid ?? '') && inode !== '0') owners.set(`${local} ${remote}`, Number(uid));
  }
  return owners;
}

/** The user whose open socket has these ends; undefined when there is none. */
export function ownerOf(owners: Owners, { local, remote }: Ends): number | undefined {
  const [from, to] = [local, remote].map(([address, port]) => {
    const shown = port.toString(16).toUpperCase().padStart(4, '0');
    return words(address).map((each) => `${each}:${shown}`);
  });
  return from!.map((each, at) => owners.get(`${each} ${to![at]!}`)).find((uid) => uid !== undefined);
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
