import { parseArgs } from '../../base/parse-args.ts';
import { ClientError } from '../errors/failure.ts';
import { writePrivate } from '../os/files.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { configPath, readConfigFile } from '../settings.ts';
import type { ClientSettings } from '../settings.ts';
import { signInOnce } from '../login/login-once.ts';
import { egressFor } from '../connect/gateway-egress.ts';
import { settingsWith } from './options.ts';
import type { GatewayValues } from './options.ts';

/** Runs `postern login`. */
export async function login(args: readonly string[], env: Environment): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: {
      device: { type: 'boolean' },
      'no-browser': { type: 'boolean' },
      gateway: { type: 'string' },
      'ca-file': { type: 'string' },
    },
    allowPositionals: true,
  });
  if (positionals.length > 1) throw usage('login takes one gateway');
  if (positionals.length === 1 && values.gateway !== undefined)
    throw usage('login takes one gateway, not two');
  const settings = readWithGateway({ ...values, gateway: positionals[0] ?? values.gateway }, env);
  const { asking, gateway, paths } = settings;
  await signInOnce({
    state: paths.state,
    gateway,
    egress: egressFor(settings),
    device: values.device === true,
    ...(asking.isAllowed && values['no-browser'] !== true ? { browser: asking.browser } : {}),
    hangup: 'leave',
    wanted: 'a new sign-in',
  });
  remember(settings);
  return 0;
}

/** Reads the settings; where no gateway is set, the hint is to name it in this command. */
function readWithGateway(values: GatewayValues, env: Environment): ClientSettings {
  try {
    return settingsWith(values, env);
  } catch (error) {
    if (!(error instanceof ClientError && error.code === 'GATEWAY_UNSET')) throw error;
    throw new ClientError(error.code, error.message, {
      cause: error,
      hint: 'postern login https://gw.example/ssh/',
    });
  }
}

/** Makes the first gateway that the user signs in to the default, as `setup` would. */
function remember({ gateway, caFile, paths }: ClientSettings): void {
  if (readConfigFile(paths) !== undefined) return;
  const config = { gateway: gateway.href, ...(caFile === undefined ? {} : { caFile }) };
  try {
    writePrivate(configPath(paths), `${JSON.stringify(config, undefined, 2)}\n`);
  } catch {
    // The sign-in is what matters; the gateway has to be named again next time.
  }
}

function usage(what: string): ClientError {
  return new ClientError('USAGE', what, { hint: 'postern login --help' });
}
