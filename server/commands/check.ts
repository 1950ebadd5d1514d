import { parseArgs } from '../../base/parse-args.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { findWarnings } from './preflight.ts';
import { exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

const usage = 'postern-gateway check [--config FILE]';

/** Reports every problem of the settings, with file and line, and exits 2; without problems, warns about likely mistakes. */
export function check(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values } = parseArgs({
      args,
      options: { config: { type: 'string', default: defaultConfigFile } },
    });
    const config = await loadConfig(values.config, io.env);
    for (const warning of await findWarnings(config))
      io.stderr.write(`${values.config}: warning: ${warning}\n`);
    io.stdout.write(`${values.config}: ok\n`);
    return exits.ok;
  });
}
