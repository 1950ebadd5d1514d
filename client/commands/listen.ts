import { once, setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import type { Target } from '../../protocol/target.ts';
import { abort } from '../../stream/close.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { parseForward, parseListen, parseSocket } from '../local-proxy/listen-address.ts';
import type { LocalListenAddress } from '../local-proxy/listen-address.ts';
import { Reporter } from '../local-proxy/reporter.ts';
import { PeerUser } from '../local-proxy/peer-user.ts';
import { openDoor } from '../local-proxy/listener.ts';
import type { OpenDoor } from '../local-proxy/listener.ts';
import { passwordInFile, passwordOf } from '../local-proxy/password.ts';
import type { Password } from '../local-proxy/password.ts';
import { serve } from '../local-proxy/serve-connection.ts';
import type { ListenerContext } from '../local-proxy/serve-connection.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { printable } from '../os/printable.ts';
import { canSignIn, openTunnelTo, signInFirst } from '../connect/open-tunnel.ts';
import type { OpenTunnelOptions } from '../connect/open-tunnel.ts';
import { withCredential } from '../credentials/with-credential.ts';
import { egressFor } from '../connect/gateway-egress.ts';
import { gatewayOptions, settingsWith } from './options.ts';

/** The port of SOCKS, which most programs take when they are told none. */
const usualDoor: LocalListenAddress = { at: { kind: 'tcp', host: '127.0.0.1', port: 1080 } };
const maxConnections = 1000;
/** To say goodbye to the gateway on each tunnel. */
const leaveMs = 1000;

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
  const wishes = readWishes(values, env);
  // New objects would get more room with each burst of tunnels, and keep it: 70 MiB after a few hundred, for no speed.
  setFlagsFromString('--semi-space-growth-factor=1');
  // Who has read the first line may have gone.
  process.stdout.on('error', () => {});
  const journal = new Reporter({ state: settings.paths.state, json: values.json === true, print });
  const ways: OpenTunnelOptions = { settings, egress: egressFor(settings), notify: writeStderr };
  const over = new AbortController();
  setMaxListeners(0, over.signal);
  const neighbours = wishes.isForAll ? undefined : new PeerUser();
  const opener = new TunnelOpener(ways, journal);
  const guests = new ConnectionLimiter(wishes.limit, {
    password: wishes.password,
    neighbours,
    open: (target, signal) => opener.open(target, signal),
    onFailure: (error, target) => journal.failed(error, target),
    signal: over.signal,
  });
  const doors = await openAll(wishes.doors, guests);
  await warnOfOthers(wishes, neighbours);
  const asked = firstSignal();
  journal.listening(doors);
  void opener.prepare();
  await asked;
  for (const door of doors) door.close();
  over.abort();
  await Promise.race([guests.gone(), delay(leaveMs, undefined, { ref: false })]);
  journal.stopped();
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

function readWishes(values: Values, env: Environment): ListenOptions {
  const { listen: places = [], socket: paths = [], forward: forwards = [] } = values;
  const doors: LocalListenAddress[] = [
    ...places.map((text) => ({ at: parseListen(text) })),
    ...paths.map((text) => ({ at: parseSocket(text) })),
    ...forwards.map((text) => parseForward(text)),
  ];
  const limit = values['most-connections'] ?? String(maxConnections);
  if (!/^[1-9]\d{0,5}$/.test(limit)) throw new ClientError('USAGE', '--most-connections is a number');
  return {
    doors: doors.length === 0 ? [usualDoor] : doors,
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
  guests: ConnectionLimiter,
): Promise<readonly OpenDoor[]> {
  const open: OpenDoor[] = [];
  try {
    for (const door of doors) open.push(await openDoor(door, (socket) => guests.acquire(socket, door)));
    return open;
  } catch (error) {
    for (const door of open) door.close();
    throw error;
  }
}

async function warnOfOthers(
  { doors, password, isForAll }: ListenOptions,
  neighbours: PeerUser | undefined,
): Promise<void> {
  const isReachable = (door: LocalListenAddress): boolean =>
    door.at.kind === 'tcp' && (password === undefined || door.forward !== undefined);
  if (!doors.some(isReachable)) return;
  if (!isForAll && (await neighbours?.canTell()) === true) return;
  writeStderr(
    'postern: warning: every user of this machine can reach what you may reach, as long as this runs\n' +
      'postern: hint: postern listen --password-file ~/.config/postern/listen-password\n',
  );
}

async function firstSignal(): Promise<void> {
  const heard = new AbortController();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  // The second one ends the process at once.
  await Promise.race(signals.map((name) => once(process, name, { signal: heard.signal })));
  heard.abort();
}

/** Opens tunnels; where nobody has signed in, somebody is asked to, once for all who wait. */
class TunnelOpener {
  readonly #ways: OpenTunnelOptions;
  readonly #journal: Reporter;
  #signingIn: Promise<void> | undefined;

  constructor(ways: OpenTunnelOptions, journal: Reporter) {
    this.#ways = ways;
    this.#journal = journal;
  }

  async open(target: Target, signal: AbortSignal): Promise<Duplex> {
    const ways = { ...this.#ways, signal, notify: (line: string) => this.#journal.said(line, target) };
    try {
      return await openTunnelTo(target, ways);
    } catch (error) {
      if (!this.#isForSignIn(error)) throw error;
      await this.#signIn();
      return openTunnelTo(target, ways);
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

  constructor(limit: number, house: ListenerContext) {
    this.#limit = limit;
    this.#house = house;
  }

  acquire(socket: Socket, door: LocalListenAddress): void {
    if (this.#house.signal.aborted) return abort(socket);
    if (this.#served.size >= this.#limit) {
      abort(socket);
      return this.#house.onFailure(
        new ClientError('LISTENER_FULL', `${this.#limit} connections are open, and no more are taken`),
      );
    }
    const served = serve(socket, door, this.#house);
    this.#served.add(served);
    void served.then(() => this.#served.delete(served));
  }

  /** When nobody is in any more. */
  async gone(): Promise<void> {
    await Promise.all(this.#served);
  }
}
