import { isAbsolute } from 'node:path';
import { parseTarget, quote } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { absolutePath } from '../errors/absolute-path.ts';
import { ClientError } from '../errors/failure.ts';

/** An address on which the local proxy accepts connections. */
export interface LocalListenAddress {
  readonly at: LocalAddress;
  /** The target of every connection; absent: programs name it, by SOCKS or CONNECT. */
  readonly forward?: Target;
}

export type LocalAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Parses `PORT` or `ADDRESS:PORT`; 0 is any free port. Throws `USAGE` for an address that other machines can reach. */
export function parseListen(text: string): LocalAddress {
  const [, v6, v4, portText] = /^(?:(?:\[([^[\]]*)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(portText);
  if (portText === undefined || port > 65_535)
    throw usage(`${quote(text)} is not an address to listen on: write a port, or 127.0.0.1:port`);
  const host = v6 ?? v4 ?? '127.0.0.1';
  if (host === 'localhost') return { kind: 'tcp', host: '127.0.0.1', port };
  if (host === '::1' || /^127(?:\.(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])){3}$/.test(host))
    return { kind: 'tcp', host, port };
  throw usage(`postern listens on this machine only: 127.0.0.1 or [::1], not ${quote(host)}`);
}

/** Parses a path. Throws `USAGE`. */
export function parseSocket(text: string): LocalAddress {
  if (process.platform === 'win32') throw usage('unix sockets are not supported here; use --listen');
  const path = isAbsolute(text) ? text : absolutePath(text, 'the path of the socket');
  // The size of sockaddr_un everywhere; Node.js would cut a longer path and listen on another one.
  if (Buffer.byteLength(path) > 103) throw usage(`${quote(path)} is too long for a socket path`);
  return { kind: 'unix', path };
}

/** Parses `[ADDRESS:]PORT:HOST:PORT` or `PATH:HOST:PORT`, as ssh's -L. Throws `USAGE`, `TARGET_INVALID`. */
export function parseForward(text: string): LocalListenAddress {
  const [, where, target] = /^(.+?):((?:\[[^[\]]*\]|[^:[\]]+):\d+)$/.exec(text) ?? [];
  if (where === undefined) throw usage(`${quote(text)} is not a forward: write it like 2222:box:22`);
  return {
    at: where.includes('/') ? parseSocket(where) : parseListen(where),
    forward: parseTarget(target!, 'required'),
  };
}

function usage(what: string): ClientError {
  return new ClientError('USAGE', what, { hint: 'postern listen --help' });
}
