import { parseArgs } from '../../base/parse-args.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { readSettings } from '../settings.ts';
import type { ClientSettings } from '../settings.ts';

/** The options of commands that use a gateway, for `parseArgs`. */
export const gatewayOptions = {
  json: { type: 'boolean' },
  gateway: { type: 'string' },
  'ca-file': { type: 'string' },
  'token-file': { type: 'string' },
} as const;

/** The values of those options. */
export interface GatewayValues {
  readonly json?: boolean | undefined;
  readonly gateway?: string | undefined;
  readonly 'ca-file'?: string | undefined;
  readonly 'token-file'?: string | undefined;
  /** Only in commands that open tunnels. */
  readonly via?: string | undefined;
}

/** Settings with the options of such a command. Throws as `readSettings`. */
export function settingsWith(values: GatewayValues, env: Environment): ClientSettings {
  const { gateway, 'ca-file': caFile, 'token-file': tokenFile, via } = values;
  return readSettings(
    {
      ...(gateway === undefined ? {} : { gateway }),
      ...(caFile === undefined ? {} : { caFile }),
      ...(tokenFile === undefined ? {} : { tokenFile }),
      ...(via === undefined ? {} : { via }),
    },
    env,
  );
}

/** Parses the arguments of a command that has only these options. Throws as `parseArgs` and `readSettings`. */
export function readOptions(
  args: readonly string[],
  env: Environment,
): { readonly settings: ClientSettings; readonly json: boolean } {
  const { values } = parseArgs({ args: [...args], options: gatewayOptions });
  return { settings: settingsWith(values, env), json: values.json === true };
}
