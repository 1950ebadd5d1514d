import type { LookupFunction, Socket } from 'node:net';
import { onAbort } from '../../base/deadline.ts';
import { formatTarget, isAddress } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Egress } from './egress.ts';
import { cachedLookup } from './tcp/dns-cache.ts';
import { openTcp } from './tcp/tcp.ts';
import type { Peer } from './tcp/tcp.ts';

/** Straight to the gateway. */
export const direct: Egress = {
  name: 'direct',
  connect: (gateway, signal) => takePreconnected(gateway, signal) ?? openTcp(peerOf(gateway), signal),
};

interface Early {
  readonly peer: Peer;
  readonly opened: Promise<Socket>;
  readonly abort: AbortController;
  readonly unwanted: NodeJS.Timeout;
}

let early: Early | undefined;

/** After this time the gateway may be about to give up on whoever says nothing. */
const earlyMs = 5000;

/** A connection that was begun, and perhaps for nothing. */
export interface EarlyConnection {
  /** The first packet has been sent, or the name takes long to be looked up. Never rejects. */
  readonly begun: Promise<void>;
  /** Ends it when nobody has taken it. */
  stop(): void;
}

/** Longer than a name takes that was asked for a moment ago. */
const lookupMs = 10;

/** Begins a connection, which the next one to the same place is then. */
export function connectEarly(gateway: Target): EarlyConnection {
  const peer = peerOf(gateway);
  const abort = new AbortController();
  let opened!: Promise<Socket>;
  const begun = new Promise<void>((resolve) => {
    const lookup: LookupFunction = (name, options, callback) =>
      cachedLookup(name, options, (...answer) => {
        callback(...answer);
        resolve();
      });
    opened = openTcp({ ...peer, lookup }, abort.signal);
    // Told to who takes it.
    opened.catch(() => {});
    setTimeout(resolve, isAddress(gateway.host) ? 0 : lookupMs);
  });
  early = { peer, opened, abort, unwanted: setTimeout(drop, earlyMs).unref() };
  return { begun, stop: drop };
}

function drop(): void {
  if (early === undefined) return;
  clearTimeout(early.unwanted);
  early.opened.then((socket) => socket.destroy()).catch(() => {});
  early.abort.abort();
  early = undefined;
}

function takePreconnected(gateway: Target, signal: AbortSignal): Promise<Socket> | undefined {
  if (early === undefined || early.peer.name !== formatTarget(gateway)) return undefined;
  const { opened, abort, unwanted } = early;
  early = undefined;
  clearTimeout(unwanted);
  const removeListener = onAbort(signal, () => abort.abort());
  return opened.finally(removeListener);
}

function peerOf(gateway: Target): Peer {
  return {
    address: gateway,
    name: formatTarget(gateway),
    unreachable: 'GATEWAY_UNREACHABLE',
    timeout: 'GATEWAY_TIMEOUT',
    hint: 'export HTTPS_PROXY=http://proxy.example:3128',
  };
}
