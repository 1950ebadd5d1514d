import { once } from 'node:events';
import { Socket, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { onreadOf, pour, roles } from './load.ts';

// The target of `load.ts`, in a thread of its own, as a target has an event loop of its own.
const { role, taken } = workerData as { readonly role: Int32Array; readonly taken: Float64Array };
const sockets = new Set<Socket>();

const server = createServer({ noDelay: true, pauseOnConnect: true }, (accepted) => {
  const does = roles[role[0]!]!;
  const socket = does === 'sink' ? counting(accepted) : accepted;
  sockets.add(socket);
  socket.on('error', () => {}).once('close', () => sockets.delete(socket));
  socket.resume();
  if (does === 'source') pour(socket);
  if (does === 'echo') socket.on('data', (bytes) => void socket.write(bytes));
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');

parentPort!.on('message', (message: 'cut' | 'close') => void obey(message));
parentPort!.postMessage((server.address() as AddressInfo).port, []);

/** All is read into one memory: `net.connect` has an option for that, but connections that are accepted have none. */
function counting(accepted: Socket): Socket {
  const inside = accepted as unknown as { _handle: unknown };
  const { _handle: handle } = inside;
  inside._handle = null;
  return new Socket({ handle, onread: onreadOf((bytes) => (taken[0]! += bytes)) } as object);
}

async function obey(message: 'cut' | 'close'): Promise<void> {
  await Promise.all([...sockets].map(ended));
  parentPort!.postMessage(message, []);
  if (message === 'cut') return;
  // Then nothing keeps the thread. Ending it by force, with sockets in it that were taken over, takes for ever.
  server.close();
  parentPort!.close();
}

function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => void socket.once('close', () => resolve()).destroy());
}
