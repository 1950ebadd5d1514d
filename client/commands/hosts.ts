import { printableJson } from '../../base/printable-json.ts';
import { requestAccess } from '../connect/gateway-api.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { printable } from '../os/terminal.ts';
import { readOptions } from './options.ts';

/** The output of `postern hosts --json`; `version` counts changes of this shape. */
export interface Hosts {
  readonly version: 1;
  readonly gateway: string;
  readonly hosts: readonly { readonly pattern: string }[];
}

/** Runs `postern hosts`: prints the hosts that the user can reach, from the gateway. */
export async function hosts(
  args: readonly string[],
  env: Environment,
  print: (text: string) => void,
): Promise<number> {
  const { settings, json } = readOptions(args, env);
  const access = await requestAccess(settings);
  const found: Hosts = { version: 1, gateway: settings.gateway.href, hosts: access.hosts };
  if (json) print(`${printableJson(found, 2)}\n`);
  else print(access.hosts.map(({ pattern }) => `${printable(pattern)}\n`).join(''));
  return 0;
}
