import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

// A thread of its own, so that a client that types elsewhere does not wait for it.
const { eachBytes } = workerData as { eachBytes: number };
const chunk = Buffer.alloc(64 * 1024, 'x');
let taken = 0;

const pour = async (socket: Socket): Promise<void> => {
  for (let sent = 0; sent < eachBytes && !socket.destroyed; sent += chunk.length) {
    if (!socket.write(chunk, () => (taken += chunk.length))) await once(socket, 'drain').catch(() => {});
  }
};

const server = createServer((socket) => {
  socket.on('error', () => {});
  // Any data from the client is answered with all there is.
  socket.once('data', () => void pour(socket));
});
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 });
await once(server, 'listening');
const port = parentPort!;
port.postMessage((server.address() as AddressInfo).port);
setInterval(() => port.postMessage(taken), 100);
