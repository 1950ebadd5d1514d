import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { abort } from '../../stream/close.ts';

/** How a connection is broken: by a reset, by an end without a word, or by silence both ways. */
export type Fault = 'reset' | 'end' | 'silence';

/** A TCP proxy that can break what goes through it; no real program can be made to do it on the byte. */
export interface FaultProxy {
  readonly port: number;
  /** Connections that were taken so far. */
  readonly count: number;
  /** Breaks the connections that are open now. */
  cut(fault: Fault): void;
  /** Breaks each connection that is opened from now on when it has carried that many bytes, both ways together. */
  cutAfter(bytes: number, fault: Fault): void;
  /** While false, new connections are refused by a reset. */
  isUp: boolean;
  close(): void;
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
  carried: number;
  limit: { readonly bytes: number; readonly fault: Fault } | undefined;
}

/** Listens on a free port of loopback and forwards to `port` there. */
export async function startFaultProxy(port: number): Promise<FaultProxy> {
  const pairs = new Set<Pair>();
  let next: Pair['limit'];
  let count = 0;

  const server = createServer({ allowHalfOpen: true }, (near) => {
    near.on('error', () => {});
    if (!proxy.isUp) {
      abort(near);
      return;
    }
    count++;
    const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    far.on('error', () => abort(near));
    const pair: Pair = { near, far, carried: 0, limit: next };
    pairs.add(pair);
    near.on('close', (hadError) => {
      pairs.delete(pair);
      if (hadError) abort(far);
      else far.end();
    });
    forward(near, far, pair);
    forward(far, near, pair);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  const proxy: FaultProxy = {
    isUp: true,
    port: (server.address() as AddressInfo).port,
    get count() {
      return count;
    },
    cut(fault: Fault) {
      for (const pair of pairs) breakPair(pair, fault);
      pairs.clear();
    },
    cutAfter(bytes: number, fault: Fault) {
      next = { bytes, fault };
    },
    close() {
      server.close();
      for (const pair of pairs) breakPair(pair, 'reset');
    },
  };
  return proxy;
}

function forward(from: Socket, to: Socket, pair: Pair): void {
  from.on('data', (chunk: Buffer) => {
    const { limit } = pair;
    if (limit !== undefined && pair.carried + chunk.length >= limit.bytes) {
      to.write(chunk.subarray(0, Math.max(0, limit.bytes - pair.carried)), () =>
        breakPair(pair, limit.fault),
      );
      from.pause();
      return;
    }
    pair.carried += chunk.length;
    if (!to.write(chunk)) {
      from.pause();
      to.once('drain', () => from.resume());
    }
  });
  from.on('end', () => to.end());
}

function breakPair({ near, far }: Pair, fault: Fault): void {
  for (const socket of [near, far]) {
    socket.removeAllListeners('data').removeAllListeners('end').removeAllListeners('drain');
    if (fault === 'reset') abort(socket);
    else if (fault === 'end') socket.destroy();
    else socket.resume();
  }
}
