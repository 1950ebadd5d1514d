import type { Socket } from 'node:net';
import { onAbort } from '../../base/deadline.ts';
import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import { formatTarget, isAddress } from '../../protocol/target.ts';
import { PooledSocket } from '../../stream/zero-copy/pooled-socket.ts';
import type { Limits, ListenAddress, NetworkConfig } from '../config/config.ts';
import type { Grant } from '../policy/policy.ts';
import { descriptors } from '../net/descriptors.ts';
import { addressCheck } from './address-policy.ts';
import type { Dialer } from './dialer.ts';
import { nameResolver } from './resolve.ts';
import type { NameResolver } from './resolve.ts';

export interface TcpDialerOptions {
  readonly network: NetworkConfig;
  readonly limits: Pick<Limits, 'dialMs'>;
  /** Where the gateway itself listens: never dialled. Read at each dial, so it can grow once ports are known. */
  readonly ownAddresses: readonly ListenAddress[];
  readonly resolver?: NameResolver;
}

// RFC 8305 §5.
const attemptDelayMs = 250;
// Below the 30 s that the shortest NAT and firewall timers are known for.
const keepAliveMs = 25_000;

/**
 * Dials over TCP: resolves the name, drops the addresses that the network policy refuses, and tries the others by their
 * literal address, each a little after the one before, until one answers or `dialMs` has passed.
 */
export function tcpDialer({ network, limits, ownAddresses, resolver }: TcpDialerOptions): Dialer {
  const names = resolver ?? nameResolver({ nameServers: network.nameServers });
  const check = addressCheck({ network, ownAddresses });

  async function findAddresses(
    { address }: Grant,
    signal: AbortSignal,
    caller: string | undefined,
  ): Promise<readonly string[]> {
    const { host, port } = address;
    const found = isAddress(host) ? [host] : await names.resolve(host, signal, caller);
    const checked = found.map((each) => ({ each, ...check(each, port) }));
    const allowed = checked.filter((decision) => decision.allowed).map(({ each }) => each);
    if (allowed.length > 0) return interleave(allowed);
    const reasons = checked.map(({ each, why }) => `${each}: ${why}`).join('; ');
    throw new TunnelError('ADDRESS_DENIED', "the network policy does not allow the target's address", {
      cause: new Error(reasons),
    });
  }

  return {
    async dial(grant, signals, caller) {
      for (const signal of signals) signal.throwIfAborted();
      const dialling = new AbortController();
      const removers = signals.map((signal) => onAbort(signal, () => dialling.abort(signal.reason)));
      const timer = setTimeout(
        () => dialling.abort(refusal('DIAL_TIMEOUT', grant, new Error(`no answer in ${limits.dialMs} ms`))),
        limits.dialMs,
      );
      try {
        const addresses = await findAddresses(grant, dialling.signal, caller);
        return await race(addresses, grant, dialling.signal);
      } finally {
        clearTimeout(timer);
        for (const remove of removers) remove();
      }
    },
  };
}

/** IPv6 and IPv4 alternating, IPv6 first (RFC 8305 §4): a dead family costs one delay. */
function interleave(addresses: readonly string[]): readonly string[] {
  if (addresses.length === 1) return addresses;
  const v6 = addresses.filter((address) => address.includes(':'));
  const v4 = addresses.filter((address) => !address.includes(':'));
  return addresses.flatMap((_, at) => [v6[at], v4[at]]).filter((address) => address !== undefined);
}

/** The first attempt that connects; the sockets of all others are destroyed. Rejects with the most telling failure. */
function race(addresses: readonly string[], grant: Grant, signal: AbortSignal): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const pending = new Set<Socket>();
  const failures: unknown[] = [];
  const left = [...addresses];
  let timer: NodeJS.Timeout | undefined;

  const finish = (winner?: Socket): void => {
    clearTimeout(timer);
    removeListener();
    left.length = 0;
    for (const socket of pending) if (socket !== winner) socket.destroy();
    pending.clear();
  };

  const fail = (socket: Socket, cause: unknown): void => {
    if (!pending.delete(socket)) return;
    socket.destroy();
    failures.push(cause);
    finishIfNoneIsLeft();
  };

  const finishIfNoneIsLeft = (): void => {
    if (left.length > 0) next();
    else if (pending.size === 0) {
      finish();
      reject(worst(failures, grant));
    }
  };

  const next = (): void => {
    clearTimeout(timer);
    const address = left.shift();
    if (address === undefined) return;
    if (left.length > 0) timer = setTimeout(next, attemptDelayMs);
    const giveBack = descriptors.take();
    if (giveBack === undefined) {
      failures.push(connectError('EMFILE'));
      return finishIfNoneIsLeft();
    }
    const socket = open(address, grant.address.port);
    socket.once('close', giveBack);
    pending.add(socket);
    // This listener stays for the life of the socket: its next owner can attach its own late, and an
    // `error` event without a listener ends the process.
    socket.on('error', (cause) => fail(socket, cause));
    socket.once('connect', () => {
      if (!pending.has(socket)) return;
      if (isSelfConnected(socket)) return fail(socket, connectError('ECONNREFUSED'));
      finish(socket);
      resolve(socket);
    });
  };

  if (signal.aborted) return Promise.reject(signal.reason as Error);
  const removeListener = onAbort(signal, () => {
    finish();
    reject(signal.reason as Error);
  });
  next();
  return promise;
}

function open(host: string, port: number): Socket {
  return new PooledSocket({
    host,
    port,
    autoSelectFamily: false,
    // EOF from either side is data: the other direction goes on.
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveMs,
  });
}

/** A dial to an ephemeral port of this machine can connect to itself (TCP simultaneous open) and echo forever. */
function isSelfConnected(socket: Socket): boolean {
  return socket.localPort === socket.remotePort && socket.localAddress === socket.remoteAddress;
}

function connectError(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`connect ${code}`), { code });
}

/** The error codes of the kernel, translated. */
const dialCodes: Record<string, TunnelErrorCode> = {
  ECONNREFUSED: 'DIAL_REFUSED',
  ECONNRESET: 'DIAL_REFUSED',
  ETIMEDOUT: 'DIAL_TIMEOUT',
  EADDRNOTAVAIL: 'DIAL_EXHAUSTED',
  EMFILE: 'DIAL_EXHAUSTED',
  ENFILE: 'DIAL_EXHAUSTED',
  ENOBUFS: 'DIAL_EXHAUSTED',
  ENOMEM: 'DIAL_EXHAUSTED',
  EAGAIN: 'DIAL_EXHAUSTED',
  EHOSTUNREACH: 'DIAL_UNREACHABLE',
  EHOSTDOWN: 'DIAL_UNREACHABLE',
  ENETUNREACH: 'DIAL_UNREACHABLE',
  ENETDOWN: 'DIAL_UNREACHABLE',
  EACCES: 'DIAL_UNREACHABLE',
  EPERM: 'DIAL_UNREACHABLE',
  EINVAL: 'DIAL_UNREACHABLE',
  EAFNOSUPPORT: 'DIAL_UNREACHABLE',
};

/** The most telling first: an answer, a shortage of our own, silence, no route. */
const tellingOrder = [
  'DIAL_REFUSED',
  'DIAL_EXHAUSTED',
  'DIAL_TIMEOUT',
  'DIAL_UNREACHABLE',
  'INTERNAL',
] as const;

const messages: Partial<Record<TunnelErrorCode, string>> = {
  DIAL_REFUSED: 'the connection was refused',
  DIAL_TIMEOUT: 'it did not answer in time',
  DIAL_UNREACHABLE: 'no route to host',
  DIAL_EXHAUSTED: 'the gateway has no free connection left',
};

function worst(failures: readonly unknown[], grant: Grant): TunnelError {
  const codes = failures.map(
    (cause) => dialCodes[(cause as NodeJS.ErrnoException).code ?? ''] ?? ('INTERNAL' as const),
  );
  const code = tellingOrder.find((each) => codes.includes(each)) ?? 'INTERNAL';
  return refusal(code, grant, failures[codes.indexOf(code)]);
}

/** Names the target as the caller did; its real address stays in the cause. */
function refusal(code: TunnelErrorCode, { target }: Grant, cause: unknown): TunnelError {
  return new TunnelError(code, `cannot reach ${formatTarget(target)}: ${messages[code] ?? code}`, { cause });
}
