import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { certificate, key } from '../client/certificates.ts';
import { abort } from '../../stream/close.ts';
import type { EntryName } from '../../protocol/entries.ts';
import type { Fault } from './fault-proxy.ts';

/** The points at which a connection can be cut while a tunnel is being opened, in their order. */
export const stages = [
  'connection',
  'proxy request',
  'proxy answer',
  'tls',
  'request',
  'answer',
  'opened',
  'first data',
] as const;
export type Stage = (typeof stages)[number];

/** How the front is reached: in clear text, by TLS that it ends, or by CONNECT to it as a proxy and TLS within that. */
export type Way = 'direct' | 'tls' | 'proxy';

/** What is done with a request: passed, passed without its upgrade, answered with this status, or lost. */
export type Treatment = 'pass' | 'strip' | 'lose' | 'swallow' | number;

export interface CuttingFront {
  readonly port: number;
  /** The entries of the requests that came in whole, one for each connection. */
  readonly asked: readonly (EntryName | 'data')[];
  /** The connections that were cut. */
  readonly cuts: number;
  close(): void;
}

export interface CuttingPlan {
  /** The port of the gateway, in clear text. */
  readonly port: number;
  readonly way: Way;
  /** How many connections are cut, where, and how. */
  readonly cut?: { readonly stage: Stage; readonly fault: Fault; readonly times: number };
  readonly treat: (entry: EntryName) => Treatment;
}

/**
 * Something before the gateway that can cut a connection exactly where it is told to: no real program does that. It
 * sees one request for each connection and what follows as bytes.
 */
export async function startCuttingFront(plan: CuttingPlan): Promise<CuttingFront> {
  const sockets = new Set<Socket>();
  const asked: (EntryName | 'data')[] = [];
  let cuts = 0;

  const server = createServer({ allowHalfOpen: true }, (raw) => {
    sockets.add(raw);
    raw.on('error', () => {}).on('close', () => sockets.delete(raw));
    void serve(raw).catch(() => raw.destroy());
  });

  async function serve(raw: Socket): Promise<void> {
    if (isCut(raw, 'connection')) return;
    if (plan.way === 'proxy') {
      await readHead(raw);
      if (isCut(raw, 'proxy request')) return;
      const answer = 'HTTP/1.1 200 Connection established\r\n\r\n';
      if (isDue('proxy answer')) raw.write(answer.slice(0, 20));
      if (isCut(raw, 'proxy answer')) return;
      raw.write(answer);
    }
    let near: Duplex = raw;
    if (plan.way !== 'direct') {
      raw.resume();
      const [hello] = (await once(raw, 'data')) as [Buffer];
      raw.pause();
      if (isCut(raw, 'tls')) return;
      raw.unshift(hello);
      near = new TLSSocket(raw, { isServer: true, key, cert: certificate });
      near.on('error', () => raw.destroy());
    }
    await forward(raw, near);
  }

  async function forward(raw: Socket, near: Duplex): Promise<void> {
    const head = await readHead(near);
    const entry = entryOf(head);
    asked.push(entry);
    if (entry === 'data' && head.includes('/http/up') && isCut(raw, 'first data')) return;
    if (entry !== 'data' && isCut(raw, 'request')) return;
    const treatment = entry === 'data' ? plan.treat('http') : plan.treat(entry);
    if (treatment === 'swallow') return void raw.resume();
    if (treatment === 'lose') return abort(raw);
    if (typeof treatment === 'number') {
      const answer = `HTTP/1.1 ${treatment} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`;
      if (isDue('answer')) near.write(answer.slice(0, 12));
      if (!isCut(raw, 'answer')) near.end(answer);
      return;
    }
    const far = connect({ port: plan.port, host: '127.0.0.1', allowHalfOpen: true });
    sockets.add(far);
    far.on('error', () => raw.destroy()).on('close', () => sockets.delete(far));
    raw.on('close', () => far.destroy());
    far.write(
      treatment === 'strip' ? head.replaceAll(/\r\n(?:Upgrade|Connection): [^\r]*/gi, '') : head,
      'latin1',
    );
    let isFresh = entry !== 'data';
    far.on('data', (chunk: Buffer) => {
      if (isFresh) {
        isFresh = false;
        const end = chunk.indexOf('\r\n\r\n') + 4;
        if (isDue('answer')) near.write(chunk.subarray(0, end >> 1));
        else if (isDue('opened')) near.write(chunk.subarray(0, end));
        if (isCut(raw, 'answer') || isCut(raw, 'opened')) far.destroy();
      }
      if (!far.destroyed) near.write(chunk);
    });
    far.on('end', () => near.end());
    near.on('data', (chunk: Buffer) => {
      if (entry === 'relay' && isCut(raw, 'first data')) far.destroy();
      else far.write(chunk);
    });
    near.on('end', () => far.end());
    near.resume();
  }

  /** Whether a connection that has got to this stage is to be cut. */
  function isDue(stage: Stage): boolean {
    return plan.cut?.stage === stage && cuts < plan.cut.times;
  }

  /** Cuts the connection, if it is to be. */
  function isCut(raw: Socket, stage: Stage): boolean {
    if (!isDue(stage)) return false;
    cuts++;
    const { fault } = plan.cut!;
    // What was written before must be on its way.
    setImmediate(() => {
      if (fault === 'reset') abort(raw);
      else if (fault === 'end') raw.destroySoon();
      else raw.removeAllListeners('data').resume();
    });
    return true;
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    get cuts() {
      return cuts;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** The head of a request, with all that came with it; the stream is paused then. */
async function readHead(stream: Duplex): Promise<string> {
  let head = '';
  while (!head.includes('\r\n\r\n')) {
    const [chunk] = (await Promise.race([
      once(stream, 'data'),
      once(stream, 'close').then(() => Promise.reject(new Error('closed'))),
    ])) as [Buffer];
    head += chunk.toString('latin1');
  }
  stream.pause();
  return head;
}

function entryOf(head: string): EntryName | 'data' {
  const [line = ''] = head.split('\r\n', 1);
  if (line.startsWith('CONNECT ')) return 'connect';
  if (/ \/ssh\/http\/(?:connect|reconnect)/.test(line)) return 'http';
  if (line.includes(' /ssh/http/')) return 'data';
  if (line.includes('/v4/')) return 'relay';
  return /\r\nUpgrade: connect-tcp\r\n/i.test(head) ? 'connect-tcp' : 'websocket';
}
