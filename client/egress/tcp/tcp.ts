import { connect } from 'node:net';
import type { LookupFunction, Socket } from 'node:net';
import { onAbort } from '../../../base/deadline.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import type { Target } from '../../../protocol/target.ts';
import { ClientError } from '../../errors/failure.ts';
import type { Interruption } from '../../errors/failure.ts';
import { cachedLookup } from './dns-cache.ts';

export const connectMs = 10_000;

/** The peer of a connection, and its errors. */
export interface Peer {
  readonly address: Target;
  readonly name: string;
  readonly unreachable: TunnelErrorCode;
  readonly timeout: TunnelErrorCode;
  /** A command that may help when nothing answers. */
  readonly hint?: string;
  /** Resolves its name; absent: `cachedLookup`, for names that mean the same in every network. */
  readonly lookup?: LookupFunction;
}

const words: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the name does not resolve',
  EAI_AGAIN: 'the name cannot be resolved at the moment',
  ECONNREFUSED: 'it refuses connections',
  ECONNRESET: 'the connection was reset',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'no route to host',
  ETIMEDOUT: 'it does not answer',
};

/** What can be over in a moment: a server that restarts, a network that comes up. */
const passing = new Set(Object.keys(words));
/** A name that does not exist is mistyped, or of a company network whose VPN is about to come up. */
const nameRepeats = 2;

function interruptionBy(code: string): Interruption {
  return code === 'ENOTFOUND' ? { how: 'lost', repeats: nameRepeats } : { how: 'lost' };
}

/** Opens a TCP connection, within 10 s. The caller owns the socket, which has an `error` listener already. */
export function openTcp(peer: Peer, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: peer.address.host,
      port: peer.address.port,
      allowHalfOpen: true,
      noDelay: true,
      lookup: peer.lookup ?? cachedLookup,
      // Explicit, or NODE_OPTIONS could turn it off.
      autoSelectFamily: true,
      // By default Node.js tries the next address after 250 ms, less than a round trip by satellite.
      autoSelectFamilyAttemptTimeout: 1000,
    });
    const onTimeout = (): void => {
      const context = { ...hintOf(peer), interruption: { how: 'lost' } } as const;
      socket.destroy(new ClientError(peer.timeout, `${peer.name} does not answer`, context));
    };
    const timer = setTimeout(onTimeout, connectMs);
    const removeListener = onAbort(signal, onTimeout);
    const stop = (): void => {
      clearTimeout(timer);
      removeListener();
    };
    socket.once('connect', () => {
      stop();
      resolve(socket);
    });
    // Stays for good: a reset between two owners of the socket must not end the process.
    socket.on('error', (error) => {
      stop();
      reject(error instanceof ClientError ? error : unreachable(peer, error));
    });
  });
}

function unreachable(peer: Peer, cause: NodeJS.ErrnoException): ClientError {
  const code = cause.code ?? 'unknown error';
  const what = words[code];
  // A peer that refuses has been reached: another route would lead to the same port.
  const context = {
    cause,
    ...(code === 'ECONNREFUSED' ? {} : hintOf(peer)),
    ...(passing.has(code) && { interruption: interruptionBy(code) }),
  };
  return new ClientError(
    code === 'ETIMEDOUT' ? peer.timeout : peer.unreachable,
    `cannot reach ${peer.name}: ${what === undefined ? code : `${what}, ${code}`}`,
    context,
  );
}

function hintOf({ hint }: Peer): { hint?: string } {
  return hint === undefined ? {} : { hint };
}
