import { writeFile } from 'node:fs/promises';
import { parseArgs } from '../../base/parse-args.ts';
import { ConfigError } from '../config/config-error.ts';
import type { Config } from '../config/config.ts';
import { standardLog } from '../telemetry/log.ts';
import { defaultConfigText } from '../config/sample.ts';
import { defaultConfigFile } from '../config/load.ts';
import { workerContext } from '../cluster/worker-context.ts';
import { passedSockets } from '../listener/passed-sockets.ts';
import { cpuWarnings, findStartProblems } from './preflight.ts';
import { runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { GatewayProcess } from './gateway-process.ts';
import { ReloadableConfig } from './reloadable-config.ts';
import { serveAsWorker } from './serve-worker.ts';

const usage = 'postern-gateway serve [--config FILE] [--init]';

/** `postern-gateway serve`: runs until a signal ends it; resolves to the exit code. */
export function serve(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, () => serveUntilStopped(args, io));
}

async function serveUntilStopped(args: string[], { env }: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      config: { type: 'string', default: defaultConfigFile },
      init: { type: 'boolean', default: false },
    },
  });
  const worker = workerContext(env);
  if (worker) return serveAsWorker(values.config, worker, env);
  if (values.init)
    await writeFile(values.config, defaultConfigText(), { flag: 'wx', mode: 0o600 }).catch(unlessThere);
  const settings = await ReloadableConfig.read(values.config, env);
  await assertCanStart(values.config, settings.config, env);
  const log = standardLog(settings.config.log.level);
  for (const warning of cpuWarnings(settings.config)) log.warn(warning);
  const process = await GatewayProcess.open(settings, env, log);
  return (await process.run()) === 'uncaughtException' ? 1 : 0;
}

/** Throws `ConfigError` for all that `check` reports about the surroundings of the settings. */
async function assertCanStart(file: string, config: Config, env: CommandIo['env']): Promise<void> {
  const isListenPassed = passedSockets(env).length > 0;
  const problems = await findStartProblems(config, { isListenPassed });
  if (problems.length > 0) throw new ConfigError(problems.map((problem) => ({ file, ...problem })));
}

function unlessThere(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
}
