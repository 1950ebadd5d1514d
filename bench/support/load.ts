import { once } from 'node:events';
import { Socket, connect } from 'node:net';
import type { Writable } from 'node:stream';
import { Worker } from 'node:worker_threads';

/** What the target does with a connection: send for ever, take for ever, or send back what comes. */
export const roles = ['source', 'sink', 'echo'] as const;
export type Role = (typeof roles)[number];

/** What everything that is measured leads to. */
export interface LoadTarget {
  readonly port: number;
  /** What it does with connections from now on. */
  play(role: Role): void;
  /** The bytes that it has taken as a sink. */
  taken(): number;
  /** Ends all connections. */
  cut(): Promise<void>;
  close(): Promise<void>;
}

/** Starts it. The caller closes it. */
export async function startLoadTarget(): Promise<LoadTarget> {
  const role = new Int32Array(new SharedArrayBuffer(4));
  const taken = new Float64Array(new SharedArrayBuffer(8));
  const worker = new Worker(new URL('load-target.ts', import.meta.url), { workerData: { role, taken } });
  const [port] = (await once(worker, 'message')) as [number];
  return {
    port,
    play: (name) => void Atomics.store(role, 0, roles.indexOf(name)),
    taken: () => taken[0]!,
    async cut() {
      worker.postMessage('cut', []);
      await once(worker, 'message');
    },
    async close() {
      worker.postMessage('close', []);
      await once(worker, 'exit');
    },
  };
}

const largeChunk = Buffer.alloc(256 * 1024, 'x');
/** What a Node.js program reads from a pipe at once, and passes on. */
const smallChunk = largeChunk.subarray(0, 64 * 1024);

/** Sends for as long as the stream takes something. */
export function pour(stream: Writable): void {
  const chunk = stream instanceof Socket ? largeChunk : smallChunk;
  const more = (): void => {
    if (!stream.destroyed && !stream.writableEnded && stream.write(chunk)) setImmediate(more);
  };
  // Where the kernel takes everything at once, `drain` comes in the same turn of the event loop, again and again.
  stream.on('drain', () => setImmediate(more));
  more();
}

/** Connects to a port of loopback as cheaply as it can be done: what comes is counted, and nothing else. */
export async function connectCounting(port: number, take: (bytes: number) => void): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread: onreadOf(take) });
  await once(socket, 'connect');
  return socket.on('error', () => {});
}

/** For a socket whose bytes are discarded. */
export function onreadOf(take: (bytes: number) => void) {
  return {
    buffer: Buffer.allocUnsafeSlow(256 * 1024),
    callback: (bytes: number) => {
      take(bytes);
      return true;
    },
  };
}
