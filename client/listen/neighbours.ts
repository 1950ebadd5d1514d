import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { endianness } from 'node:os';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Who is at the other end of a loopback connection: this user or root, somebody else, or nobody can say. */
export type Neighbour = 'own' | 'other' | 'unknown';

/** Tells by the kernel's tables of sockets (proc(5), /proc/net/tcp) whose program has connected. Only Linux has them. */
export class Neighbours {
  readonly #paths: readonly string[];
  #next: Promise<string> | undefined;
  #current: Promise<unknown> = Promise.resolve();

  constructor(paths: readonly string[] = ['/proc/net/tcp', '/proc/net/tcp6']) {
    this.#paths = paths;
  }

  /** Whether there is anything to tell by. */
  async canTell(): Promise<boolean> {
    return process.getuid !== undefined && (await this.#tables()) !== '';
  }

  async whose(socket: Socket): Promise<Neighbour> {
    const ends = endsOf(socket);
    if (process.getuid === undefined || ends === undefined) return 'unknown';
    const tables = await this.#tables();
    if (tables === '') return 'unknown';
    const uid = ownerOf(tables, ends);
    return uid === process.getuid() || uid === 0 ? 'own' : 'other';
  }

  /** The tables as they are after this call; the kernel takes its time for them, so one reading serves all who wait. */
  #tables(): Promise<string> {
    this.#next ??= this.#read();
    return this.#next;
  }

  async #read(): Promise<string> {
    await this.#current;
    await nextTurn();
    this.#next = undefined;
    const reading = Promise.all(this.#paths.map((path) => readFile(path, 'latin1').catch(() => '')));
    this.#current = reading;
    return (await reading).join('');
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

/** The user whose open socket has these ends; undefined when there is none. */
export function ownerOf(tables: string, { local, remote }: Ends): number | undefined {
  const [from, to] = [local, remote].map(([address, port]) => {
    const shown = port.toString(16).toUpperCase().padStart(4, '0');
    return words(address).map((each) => `${each}:${shown}`);
  });
  for (const [at, each] of from!.entries()) {
    const found = tables.indexOf(` ${each} ${to![at]!} `);
    if (found === -1) continue;
    const fields = tables.slice(found + 1, tables.indexOf('\n', found)).split(/ +/);
    // A socket that no process has any more belongs to nobody, and its row says 0.
    const [uid, inode] = [fields[6], fields[8]];
    return inode === '0' ? undefined : Number(uid);
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
