import type { LookupFunction, Socket } from 'node:net';
import { onAbort } from '../../base/deadline.ts';
import { formatTarget, isAddress } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Egress } from './egress.ts';
import { cachedLookup } from './tcp/dns-cache.ts';
import { openTcp } from './tcp/tcp.ts';
import type { Peer } from './tcp/tcp.ts';

/** A direct connection to the gateway. */
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

/** An unused connection is dropped after this time: the gateway closes idle ones soon afterwards. */
const earlyMs = 5000;

/** A connection that was started early and may not be needed. */
export interface EarlyConnection {
  /** Settles when the first packet has been sent, or when name resolution takes long. Never rejects. */
  readonly begun: Promise<void>;
  /** Closes it if it has not been used. */
  stop(): void;
}

/** Longer than it takes to resolve a name that was resolved a moment ago. */
const lookupMs = 10;

/** Starts a connection, which the next `direct.connect` to the same gateway uses. */
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
    // The failure is reported to the caller that uses the connection.
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
