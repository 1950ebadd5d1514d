import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Secret } from '../../protocol/secret.ts';
import type { TunnelRequest } from '../../client/entry/entry.ts';

/** A directory that goes away with the test. */
export function temporaryDirectory(t: Pick<TestContext, 'after'>): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Listens on a free port of 127.0.0.1 until the test ends, and cuts what is still connected then. */
export async function listen(t: Pick<TestContext, 'after'>, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

/** A port that nobody listens on. */
export async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A server that calls `onHead` with each connection once the head of a request has come. */
export function rawServer(onHead: (socket: Socket, head: string) => void): Server {
  return createServer({ allowHalfOpen: true }, (socket) => {
    let head = '';
    const read = (chunk: Buffer): void => {
      head += chunk.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      socket.off('data', read);
      socket.pause();
      onHead(socket, head);
    };
    socket.on('data', read);
  });
}

/** A server that answers every request with these bytes and closes. */
export function answering(bytes: string): Server {
  return rawServer((socket) => socket.resume().end(bytes, 'latin1'));
}

/** A request for a tunnel through the gateway at this port. */
export function tunnelRequest(port: number): TunnelRequest {
  return {
    gateway: new URL(`http://127.0.0.1:${port}/ssh/`),
    target: { host: 'box', port: 22 },
    token: new Secret('t0ken'),
  };
}

/** A JWT nobody has signed. */
export function unsignedToken(claims: object): string {
  return `${encoded({ alg: 'ES256' })}.${encoded(claims)}.c2ln`;
}

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** What a stream gives until its end; unlike `for await`, leaves its other direction alone. */
export function readAll(stream: Readable): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.once('end', () => resolve(Buffer.concat(chunks))).once('error', reject);
  });
}
