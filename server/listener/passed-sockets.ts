import type { ListenAddress } from '../config/config.ts';
import type { ListenSpec } from './listen.ts';

/** The first descriptor that a process is passed (`SD_LISTEN_FDS_START` of sd_listen_fds(3)). */
export const firstPassedFd = 3;

/** A public socket of the gateway: its name says what is served on it. Several sockets can have one name. */
export interface NamedListenSpec {
  readonly name: string;
  readonly spec: ListenSpec;
}

/** A listening socket that one process passes to another, with its name. */
export interface PassedSocket {
  readonly name: string;
  readonly fd: number;
}

/** The name of the socket that web proxies and clients connect to (`listen` of the configuration). */
export const httpListener = 'http';

/** Names the process that has started this one to take over from it, and has passed its listening sockets. */
export const predecessorVariable = 'POSTERN_PREDECESSOR';

/**
 * The names of the sockets that another process of the gateway has passed, from descriptor 3 on, in the form of
 * `LISTEN_FDNAMES` (sd_listen_fds_with_names(3)). A process of an older version passes one socket and no names.
 */
const namesVariable = 'POSTERN_LISTEN_FDNAMES';

/** The listening sockets that systemd, or the process before this one, has opened for this process. */
export function passedSockets(env: NodeJS.ProcessEnv): readonly PassedSocket[] {
  if (env[predecessorVariable] === String(process.ppid)) return socketsFromPeer(env);
  const count = Number(env.LISTEN_FDS);
  if (env.LISTEN_PID !== String(process.pid) || !(count >= 1)) return [];
  return toSockets(env.LISTEN_FDNAMES).slice(0, count);
}

/** The sockets that the process of the gateway that has started this one has passed. */
export function socketsFromPeer(env: NodeJS.ProcessEnv): readonly PassedSocket[] {
  return toSockets(env[namesVariable] ?? httpListener);
}

/** The environment of a process that is passed these sockets, in this order, from descriptor 3 on. */
export function socketNames(sockets: readonly PassedSocket[]): NodeJS.ProcessEnv {
  return { [namesVariable]: sockets.map(({ name }) => name).join(':') };
}

/**
 * The public sockets of this process: those that were passed by the name of a listener, or else the first that was
 * passed, or else the address of the configuration.
 */
export function publicListeners(
  address: ListenAddress,
  passed: readonly PassedSocket[],
): readonly NamedListenSpec[] {
  const named = passed.filter(({ name }) => name === httpListener);
  const used = named.length > 0 ? named : passed.slice(0, 1);
  if (used.length === 0) return [{ name: httpListener, spec: address }];
  return used.map(({ fd }) => ({ name: httpListener, spec: { kind: 'passed', fd } }));
}

/** Without names there is one socket that is known of; sd_listen_fds_with_names(3) calls it `unknown`. */
function toSockets(names = 'unknown'): readonly PassedSocket[] {
  return names.split(':').map((name, at) => ({ name, fd: firstPassedFd + at }));
}
