import type { LookupAddress } from 'node:dns';
import type { Socket } from 'node:net';
import { onAbort } from '../../../base/deadline.ts';
import { formatTarget, isAddress } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { answerMs } from '../../http/exchange.ts';
import { ClientError, toFailure } from '../../errors/failure.ts';
import { reason } from '../../os/files.ts';
import { networkId } from '../../os/network-id.ts';
import { cachedLookup, networkLookup } from '../tcp/dns-cache.ts';
import { hopName } from './proxy-url.ts';
import type { Proxy } from './proxy-url.ts';
import {
  greeting5,
  head5Bytes,
  readChoice5,
  refusal4,
  refusal5,
  reply4Bytes,
  request4,
  request5,
  rest5,
  signIn5,
} from './socks-messages.ts';
import { openTcp } from '../tcp/tcp.ts';

/** The replies that the gateway, or the network before it, cannot be reached (RFC 1928 §6, SOCKS 4: 91): it can be restarting. */
const unreachable = new Set([1, 3, 4, 5, 6, 91]);

/** How many addresses of a name are tried; each takes a connection to the proxy. */
const maxAddresses = 4;

/**
 * Connects to the gateway through a SOCKS proxy. The caller owns the socket, which has an `error` listener already.
 * Throws `PROXY_UNREACHABLE`, `PROXY_SIGN_IN`, `PROXY_REFUSED`, `GATEWAY_UNREACHABLE`, `GATEWAY_TIMEOUT`.
 */
export async function connectBySocks(proxy: Proxy, gateway: Target, signal: AbortSignal): Promise<Socket> {
  const [first, ...others] = await targets(proxy, gateway, signal);
  let failure: unknown;
  for (const target of [first!, ...others]) {
    try {
      return await connectOnce(proxy, target, signal);
    } catch (error) {
      failure ??= error;
      if (toFailure(error).code !== 'PROXY_REFUSED' || signal.aborted) break;
    }
  }
  throw failure;
}

/** The targets to request: the gateway's name, or its addresses as resolved here. */
async function targets(proxy: Proxy, gateway: Target, signal: AbortSignal): Promise<readonly Target[]> {
  const { scheme } = proxy;
  if (isAddress(gateway.host) || scheme === 'socks4a' || scheme === 'socks5h') return [gateway];
  const addresses = await lookUp(gateway.host, signal);
  const usable = addresses.filter(({ family }) => scheme === 'socks5' || family === 4);
  if (usable.length > 0)
    return usable.slice(0, maxAddresses).map(({ address: host }) => ({ host, port: gateway.port }));
  throw new ClientError(
    'GATEWAY_UNREACHABLE',
    `${gateway.host} has no IPv4 address, and socks4:// needs one`,
  );
}

function lookUp(name: string, signal: AbortSignal): Promise<readonly LookupAddress[]> {
  return new Promise((resolve, reject) => {
    const removeListener = onAbort(signal, () =>
      reject(new ClientError('GATEWAY_TIMEOUT', `the lookup of ${name} took too long`)),
    );
    cachedLookup(name, { all: true }, (error, addresses) => {
      removeListener();
      if (error === null) return resolve(addresses as LookupAddress[]);
      const how = 'with socks5h:// or socks4a:// the proxy resolves it';
      const message = `cannot look up ${name} (${reason(error)}); ${how}`;
      reject(new ClientError('GATEWAY_UNREACHABLE', message, { cause: error }));
    });
  });
}

async function connectOnce(proxy: Proxy, target: Target, signal: AbortSignal): Promise<Socket> {
  const name = hopName(proxy);
  const { address } = proxy;
  const code = 'PROXY_UNREACHABLE';
  const peer = { address, name, unreachable: code, timeout: code, lookup: networkLookup(networkId) } as const;
  const socket = await openTcp(peer, signal);
  const stopWaiting = withSocksTimeout(socket, name, signal);
  try {
    await requestConnection(socket, proxy, target);
    return socket;
  } catch (error) {
    socket.destroy();
    if (error instanceof ClientError) throw error;
    const what = error instanceof RangeError ? error.message : `the connection was closed (${reason(error)})`;
    const isLost = !(error instanceof RangeError);
    throw new ClientError('PROXY_REFUSED', `${name}: ${what}`, {
      cause: error,
      ...(isLost && {
        interruption: { how: 'lost', ...(proxy.password === undefined ? {} : { repeats: 1 }) } as const,
      }),
    });
  } finally {
    stopWaiting();
  }
}

function withSocksTimeout(socket: Socket, name: string, signal: AbortSignal): () => void {
  const silent = (): void =>
    void socket.destroy(
      new ClientError('PROXY_REFUSED', `${name} does not answer`, { interruption: { how: 'silent' } }),
    );
  const timer = setTimeout(silent, answerMs);
  const removeListener = onAbort(
    signal,
    () => void socket.destroy(new ClientError('GATEWAY_TIMEOUT', `${name} did not answer in time`)),
  );
  return () => {
    clearTimeout(timer);
    removeListener();
  };
}

async function requestConnection(socket: Socket, proxy: Proxy, target: Target): Promise<void> {
  const { scheme, user } = proxy;
  const refused = (why: string, code: number): ClientError => {
    const message = `${hopName(proxy)} does not connect to ${formatTarget(target)}: ${why}`;
    return new ClientError('PROXY_REFUSED', message, {
      ...(unreachable.has(code) && { interruption: { how: 'unavailable' } as const }),
    });
  };
  if (scheme === 'socks4' || scheme === 'socks4a') {
    socket.write(request4(target, user ?? ''));
    const reply = await readExactly(socket, reply4Bytes);
    const why = refusal4(reply);
    if (why !== undefined) throw refused(why, reply[1]!);
    return;
  }
  await signIn(socket, proxy);
  socket.write(request5(target));
  // Some proxies end after these two bytes when they refuse.
  const start = await readExactly(socket, 2);
  const why = refusal5(start);
  if (why !== undefined) throw refused(why, start[1]!);
  const head = Buffer.concat([start, await readExactly(socket, head5Bytes - start.length)]);
  // The address from which the proxy connects is not needed.
  await readExactly(socket, rest5(head));
}

async function signIn(socket: Socket, proxy: Proxy): Promise<void> {
  const { user, password } = proxy;
  const name = hopName(proxy);
  const refused = (what: string): ClientError =>
    new ClientError('PROXY_SIGN_IN', `${name} ${what}`, {
      hint: `export ALL_PROXY=${name.replace('://', '://USER:PASSWORD@')}`,
    });
  socket.write(greeting5(password !== undefined));
  const wanted = readChoice5(await readExactly(socket, 2));
  if (wanted === 'nothing') return;
  if (user === undefined || password === undefined) throw refused('requires a user name and password');
  if (wanted === 'something else') throw refused('does not accept a user name and password');
  socket.write(signIn5(user, password.reveal()));
  const [, status] = await readExactly(socket, 2);
  if (status !== 0) throw refused('did not accept the password');
}

/** Reads exactly `length` bytes; bytes after them stay in the socket. Throws when the connection ends before. */
function readExactly(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      if (socket.destroyed) return ended();
      const bytes = socket.read(length) as Buffer | null;
      if (bytes === null) return;
      stop();
      // At its end a stream returns the remaining bytes.
      if (bytes.length === length) resolve(bytes);
      else reject(new RangeError('it closed the connection'));
    };
    const ended = (): void => {
      stop();
      reject(new RangeError('it closed the connection'));
    };
    const failed = (error: Error): void => {
      stop();
      reject(error);
    };
    const stop = (): void =>
      void socket.off('readable', look).off('end', ended).off('close', ended).off('error', failed);
    socket.on('readable', look).on('end', ended).on('close', ended).on('error', failed);
    look();
  });
}
