import { once, setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { withDeadline } from '../../base/deadline.ts';
import type { Target } from '../../protocol/target.ts';
import { abort } from '../../stream/close.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { parseForward, parseListen, parseSocket } from '../local-proxy/listen-address.ts';
import type { LocalListenAddress } from '../local-proxy/listen-address.ts';
import { Reporter } from '../local-proxy/reporter.ts';
import { PeerUser } from '../local-proxy/peer-user.ts';
import { openListener } from '../local-proxy/listener.ts';
import type { LocalListener } from '../local-proxy/listener.ts';
import { passwordInFile, passwordOf } from '../local-proxy/password.ts';
import type { Password } from '../local-proxy/password.ts';
import { serveConnection } from '../local-proxy/serve-connection.ts';
import type { ListenerContext } from '../local-proxy/serve-connection.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { printable } from '../os/printable.ts';
import { canSignIn, openTunnelTo, signInFirst } from '../connect/open-tunnel.ts';
import type { OpenTunnelOptions } from '../connect/open-tunnel.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { egressFor } from '../connect/gateway-egress.ts';
import { gatewayOptions, settingsWith } from './options.ts';

/** The port of SOCKS, which most programs take when they are told none. */
const defaultAddress: LocalListenAddress = { at: { kind: 'tcp', host: '127.0.0.1', port: 1080 } };
const maxConnections = 1000;
/** To say goodbye to the gateway on each tunnel. */
const closeMs = 1000;

/** What `listen` was asked for. */
interface ListenOptions {
  readonly doors: readonly LocalListenAddress[];
  readonly password: Password | undefined;
  readonly isForAll: boolean;
  readonly limit: number;
}

/** Runs `postern listen` until a signal ends it. Throws `USAGE`, `CONFIG_INVALID`, `GATEWAY_UNSET`, `TARGET_INVALID`. */
export async function listen(
  args: readonly string[],
  env: Environment,
  print: (text: string) => void,
): Promise<number> {
  const { values } = parseArgs({ args: [...args], options });
  const settings = settingsWith(values, env);
  const listenOptions = readListenOptions(values, env);
  // New objects would get more room with each burst of tunnels, and keep it: 70 MiB after a few hundred, for no speed.
  setFlagsFromString('--semi-space-growth-factor=1');
  // Who has read the first line may have gone.
  process.stdout.on('error', () => {});
  const reporter = new Reporter({ state: settings.paths.state, json: values.json === true, print });
  const tunnelOptions: OpenTunnelOptions = { settings, egress: egressFor(settings), notify: writeStderr };
  const over = new AbortController();
  setMaxListeners(0, over.signal);
  const peerUser = listenOptions.isForAll ? undefined : new PeerUser();
  const opener = new TunnelOpener(tunnelOptions, reporter);
  const limiter = new ConnectionLimiter(listenOptions.limit, {
    password: listenOptions.password,
    peerUser,
    open: (target, signal) => opener.open(target, signal),
    onFailure: (error, target) => reporter.failed(error, target),
    signal: over.signal,
  });
  const listeners = await openAll(listenOptions.doors, limiter);
  await warnOfOthers(listenOptions, peerUser);
  const stopped = firstSignal();
  reporter.listening(listeners);
  void opener.prepare();
  await stopped;
  for (const door of listeners) door.close();
  over.abort();
  await withDeadline(undefined, closeMs, () => limiter.allClosed()).catch(() => {});
  reporter.stopped();
  return 0;
}

const options = {
  ...gatewayOptions,
  via: { type: 'string' },
  listen: { type: 'string', multiple: true },
  socket: { type: 'string', multiple: true },
  forward: { type: 'string', short: 'L', multiple: true },
  'password-file': { type: 'string' },
  'any-user': { type: 'boolean' },
  'most-connections': { type: 'string' },
} as const;

interface Values {
  readonly listen?: readonly string[] | undefined;
  readonly socket?: readonly string[] | undefined;
  readonly forward?: readonly string[] | undefined;
  readonly 'password-file'?: string | undefined;
  readonly 'any-user'?: boolean | undefined;
  readonly 'most-connections'?: string | undefined;
}

function readListenOptions(values: Values, env: Environment): ListenOptions {
  const { listen: listens = [], socket: paths = [], forward: forwards = [] } = values;
  const doors: LocalListenAddress[] = [
    ...listens.map((text) => ({ at: parseListen(text) })),
    ...paths.map((text) => ({ at: parseSocket(text) })),
    ...forwards.map((text) => parseForward(text)),
  ];
  const limit = values['most-connections'] ?? String(maxConnections);
  if (!/^[1-9]\d{0,5}$/.test(limit)) throw new ClientError('USAGE', '--most-connections is a number');
  return {
    doors: doors.length === 0 ? [defaultAddress] : doors,
    password: readPassword(values['password-file'], env['POSTERN_LISTEN_PASSWORD']),
    isForAll: values['any-user'] === true,
    limit: Number(limit),
  };
}

function readPassword(file: string | undefined, text: string | undefined): Password | undefined {
  if (file === undefined) return text ? passwordOf(text, 'POSTERN_LISTEN_PASSWORD') : undefined;
  const path = resolve(file);
  const { password, isNew } = passwordInFile(path);
  if (isNew) writeStderr(`postern: a new password is in ${printable(path)}\n`);
  return password;
}

/** All or none. */
async function openAll(
  doors: readonly LocalListenAddress[],
  limiter: ConnectionLimiter,
): Promise<readonly LocalListener[]> {
  const open: LocalListener[] = [];
  try {
    for (const door of doors) open.push(await openListener(door, (socket) => limiter.acquire(socket, door)));
    return open;
  } catch (error) {
    for (const door of open) door.close();
    throw error;
  }
}

async function warnOfOthers(
  { doors, password, isForAll }: ListenOptions,
  peerUser: PeerUser | undefined,
): Promise<void> {
  const isReachable = (door: LocalListenAddress): boolean =>
    door.at.kind === 'tcp' && (password === undefined || door.forward !== undefined);
  if (!doors.some(isReachable)) return;
  if (!isForAll && (await peerUser?.isSupported()) === true) return;
  writeStderr(
    'postern: warning: every user of this machine can reach what you may reach, as long as this runs\n' +
      'postern: hint: postern listen --password-file ~/.config/postern/listen-password\n',
  );
}

async function firstSignal(): Promise<void> {
  const received = new AbortController();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  // The second one ends the process at once.
  await Promise.race(signals.map((name) => once(process, name, { signal: received.signal })));
  received.abort();
}

/** Opens tunnels; where nobody has signed in, somebody is asked to, once for all who wait. */
class TunnelOpener {
  readonly #ways: OpenTunnelOptions;
  readonly #journal: Reporter;
  #signingIn: Promise<void> | undefined;

  constructor(tunnelOptions: OpenTunnelOptions, reporter: Reporter) {
    this.#ways = tunnelOptions;
    this.#journal = reporter;
  }

  async open(target: Target, signal: AbortSignal): Promise<Duplex> {
    const tunnelOptions = {
      ...this.#ways,
      signal,
      notify: (line: string) => this.#journal.tunnelNotice(line, target),
    };
    try {
      return await openTunnelTo(target, tunnelOptions);
    } catch (error) {
      if (!this.#isForSignIn(error)) throw error;
      await this.#signIn();
      return openTunnelTo(target, tunnelOptions);
    }
  }

  /** Finds out, before anybody waits for it, whether there is a sign-in. Never rejects. */
  async prepare(): Promise<void> {
    const { settings, egress } = this.#ways;
    const { token: sources, gateway } = settings;
    try {
      await withCredential({ sources, gateway, egress, signal: AbortSignal.timeout(30_000) }, async () => {});
    } catch (error) {
      await (this.#isForSignIn(error) ? this.#signIn() : Promise.reject(error)).catch((cause: unknown) =>
        this.#journal.failed(toFailure(cause)),
      );
    }
  }

  #isForSignIn(error: unknown): boolean {
    return error instanceof ClientError && error.code === 'TOKEN_MISSING' && canSignIn(this.#ways.settings);
  }

  #signIn(): Promise<void> {
    this.#signingIn ??= signInFirst(this.#ways).finally(() => (this.#signingIn = undefined));
    return this.#signingIn;
  }
}

/** Who is in, and how many may be. */
class ConnectionLimiter {
  readonly #limit: number;
  readonly #house: ListenerContext;
  readonly #served = new Set<Promise<void>>();

  constructor(limit: number, context: ListenerContext) {
    this.#limit = limit;
    this.#house = context;
  }

  acquire(socket: Socket, door: LocalListenAddress): void {
    if (this.#house.signal.aborted) return abort(socket);
    if (this.#served.size >= this.#limit) {
      abort(socket);
      return this.#house.onFailure(
        new ClientError('LISTENER_FULL', `${this.#limit} connections are open, and no more are taken`),
      );
    }
    const served = serveConnection(socket, door, this.#house);
    this.#served.add(served);
    void served.then(() => this.#served.delete(served));
  }

  /** When nobody is in any more. */
  async allClosed(): Promise<void> {
    await Promise.all(this.#served);
  }
}
