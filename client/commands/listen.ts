import { once, setMaxListeners } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { parseArgs } from '../../base/parse-args.ts';
import { withDeadline } from '../../base/deadline.ts';
import { writeStderr } from '../errors/report.ts';
import { absolutePath } from '../errors/absolute-path.ts';
import { ClientError } from '../errors/failure.ts';
import { parseForward, parseListen, parseSocket } from '../local-proxy/listen-address.ts';
import type { LocalListenAddress } from '../local-proxy/listen-address.ts';
import { ConnectionLimiter } from '../local-proxy/connection-limiter.ts';
import { TunnelOpener } from '../connect/tunnel-opener.ts';
import { Reporter } from '../local-proxy/reporter.ts';
import { PeerUser } from '../local-proxy/peer-user.ts';
import { openListener } from '../local-proxy/listener.ts';
import type { LocalListener } from '../local-proxy/listener.ts';
import { passwordInFile, passwordOf } from '../local-proxy/password.ts';
import type { Password } from '../local-proxy/password.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { printable } from '../os/terminal.ts';
import type { OpenTunnelOptions } from '../connect/open-tunnel.ts';
import { egressFor } from '../connect/gateway-egress.ts';
import { gatewayOptions, settingsWith } from './options.ts';

/** The registered port of SOCKS, the default of most programs. */
const defaultAddress: LocalListenAddress = { at: { kind: 'tcp', host: '127.0.0.1', port: 1080 } };
const maxConnections = 1000;
/** Time limit for closing all tunnels at the gateway. */
const closeMs = 1000;

/** The options of `listen`. */
interface ListenOptions {
  readonly addresses: readonly LocalListenAddress[];
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
  const reporter = new Reporter({ state: settings.paths.state, json: values.json === true, print });
  const tunnelOptions: OpenTunnelOptions = { settings, egress: egressFor(settings), notify: writeStderr };
  const ended = new AbortController();
  setMaxListeners(0, ended.signal);
  const peerUser = listenOptions.isForAll ? undefined : new PeerUser();
  const opener = new TunnelOpener(tunnelOptions, {
    onNotice: (line, target) => reporter.tunnelNotice(line, target),
    onFailure: (error) => reporter.failed(error),
  });
  const limiter = new ConnectionLimiter(listenOptions.limit, {
    password: listenOptions.password,
    peerUser,
    open: (target, signal) => opener.open(target, signal),
    onFailure: (error, target) => reporter.failed(error, target),
    signal: ended.signal,
  });
  const listeners = await openAll(listenOptions.addresses, limiter);
  await warnOfOtherUsers(listenOptions, peerUser);
  const stopped = firstSignal();
  reporter.listening(listeners);
  void opener.prepare();
  await stopped;
  for (const listener of listeners) listener.close();
  ended.abort();
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
  const addresses: LocalListenAddress[] = [
    ...listens.map((text) => ({ at: parseListen(text) })),
    ...paths.map((text) => ({ at: parseSocket(text) })),
    ...forwards.map((text) => parseForward(text)),
  ];
  const limit = values['most-connections'] ?? String(maxConnections);
  if (!/^[1-9]\d{0,5}$/.test(limit)) throw new ClientError('USAGE', '--most-connections must be a number');
  return {
    addresses: addresses.length === 0 ? [defaultAddress] : addresses,
    password: readPassword(values['password-file'], env['POSTERN_LISTEN_PASSWORD']),
    isForAll: values['any-user'] === true,
    limit: Number(limit),
  };
}

function readPassword(file: string | undefined, text: string | undefined): Password | undefined {
  if (file === undefined) return text ? passwordOf(text, 'POSTERN_LISTEN_PASSWORD') : undefined;
  const path = absolutePath(file, '--password-file');
  const { password, isNew } = passwordInFile(path);
  if (isNew) writeStderr(`postern: a new password is in ${printable(path)}\n`);
  return password;
}

/** Opens all listeners or none. */
async function openAll(
  addresses: readonly LocalListenAddress[],
  limiter: ConnectionLimiter,
): Promise<readonly LocalListener[]> {
  const open: LocalListener[] = [];
  try {
    for (const address of addresses)
      open.push(await openListener(address, (socket) => limiter.serve(socket, address)));
    return open;
  } catch (error) {
    for (const listener of open) listener.close();
    throw error;
  }
}

async function warnOfOtherUsers(
  { addresses, password, isForAll }: ListenOptions,
  peerUser: PeerUser | undefined,
): Promise<void> {
  const isReachable = (address: LocalListenAddress): boolean =>
    address.at.kind === 'tcp' && (password === undefined || address.forward !== undefined);
  if (!addresses.some(isReachable)) return;
  if (!isForAll && (await peerUser?.isSupported()) === true) return;
  writeStderr(
    'postern: warning: while this runs, every user of this machine can reach the hosts that you can reach\n' +
      'postern: hint: postern listen --password-file ~/.config/postern/listen-password\n',
  );
}

async function firstSignal(): Promise<void> {
  const received = new AbortController();
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  // A second signal ends the process at once.
  await Promise.race(signals.map((name) => once(process, name, { signal: received.signal })));
  received.abort();
}
