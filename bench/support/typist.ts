// A worker thread: a target that echoes, and a person who types to it through a tunnel, one keystroke after the other.
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { parentPort } from 'node:worker_threads';
import { echoByte, openRaw, rawEntries } from './raw-tunnels.ts';
import type { RawRequest } from './raw-tunnels.ts';

/** What the thread is told. `typed` asks for the times since it was asked last, in milliseconds. */
export type TypistOrder =
  { readonly kind: 'open'; readonly port: number; readonly credentials: string } | { readonly kind: 'typed' };

const pauseMs = 2;

const target = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => {});
  socket.on('data', (bytes) => void socket.write(bytes));
});
target.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
await once(target, 'listening');
let times: number[] = [];
/** When the keystroke that is under way was typed. */
let typedAt = Infinity;

parentPort!.on('message', (order: TypistOrder) => {
  if (order.kind === 'open') void open(order.port, order.credentials);
  else {
    const waiting = performance.now() - typedAt;
    parentPort!.postMessage(waiting > 0 ? [...times, waiting] : times, []);
    times = [];
  }
});
parentPort!.postMessage((target.address() as AddressInfo).port, []);

async function open(port: number, credentials: string): Promise<void> {
  const request = rawEntries.connect(port, credentials);
  const socket = await openRaw(port, request);
  parentPort!.postMessage('open', []);
  await type(socket, request);
}

async function type(socket: Socket, request: RawRequest): Promise<void> {
  for (;;) {
    typedAt = performance.now();
    await echoByte(socket, request);
    times.push(performance.now() - typedAt);
    typedAt = Infinity;
    await delay(pauseMs);
  }
}
