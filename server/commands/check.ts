import { parseArgs } from '../../base/parse-args.ts';
import { requestJson } from '../cluster/peer-client.ts';
import { gatewayDescription } from '../cluster/peer-messages.ts';
import { loadKeyFile } from '../auth/gateway-key.ts';
import { missingKeyMessage } from '../auth/remembered-key.ts';
import type { Config, ListenAddress } from '../config/config.ts';
import { defaultConfigFile } from '../config/load.ts';
import { assertPortFree, translateListenError } from '../listener/listen.ts';
import { checkSqliteStore } from '../store/sqlite-check.ts';
import { findStartProblems } from './preflight.ts';
import type { StartProblem } from './preflight.ts';
import { exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { ReloadableConfig } from './reloadable-config.ts';
import { findWarnings } from './warnings.ts';

const usage = 'postern-gateway check [--config FILE]';
const runningMs = 2000;

/**
 * Reports every problem of the settings, with file and line, and else all that stops `serve` here and now, and exits 2;
 * besides, warns about likely mistakes.
 */
export function check(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values } = parseArgs({
      args,
      options: { config: { type: 'string', default: defaultConfigFile } },
    });
    const { config } = await ReloadableConfig.read(values.config, io.env);
    const problems = [
      ...(await findStartProblems(config)),
      ...(await storeProblems(config)),
      ...(await portProblems(config)),
    ];
    for (const { path, message } of problems) io.stderr.write(`${values.config}: ${path}: ${message}\n`);
    for (const warning of await findWarnings(config))
      io.stderr.write(`${values.config}: warning: ${warning}\n`);
    if (problems.length > 0) return exits.usage;
    io.stdout.write(`${values.config}: ok\n`);
    return exits.ok;
  });
}

async function storeProblems({ store: { file }, keyFile }: Config): Promise<readonly StartProblem[]> {
  try {
    const known = checkSqliteStore(file);
    const isMissing = (await loadKeyFile(keyFile).catch(() => null)) === undefined;
    if (isMissing && known.has(keyFile))
      return [{ path: 'keyFile', message: missingKeyMessage(keyFile, file) }];
    return [];
  } catch (error) {
    return [{ path: 'store.file', message: (error as Error).message }];
  }
}

/** A port that another program has; while this gateway runs, it has them itself. */
async function portProblems(config: Config): Promise<readonly StartProblem[]> {
  if (await isRunning(config)) return [];
  const found = await Promise.all([portProblem('listen', config.listen), portProblem('admin', config.admin)]);
  return found.flat();
}

async function portProblem(path: string, address: ListenAddress): Promise<readonly StartProblem[]> {
  if (address.kind !== 'tcp') return [];
  try {
    await translateListenError(address, () => assertPortFree(address));
    return [];
  } catch (error) {
    return [{ path, message: (error as Error).message }];
  }
}

async function isRunning({ control, publicUrl }: Config): Promise<boolean> {
  const response = await requestJson(control.path, { path: '/gateway', timeoutMs: runningMs }).catch(
    () => undefined,
  );
  return gatewayDescription.safeParse(response?.body).data?.publicUrl === publicUrl.href;
}
