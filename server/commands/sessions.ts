import { parseArgs } from '../../base/parse-args.ts';
import { quote } from '../../protocol/target.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import type { ListedSessions, SessionView } from '../admin/control.ts';
import type { Config } from '../config/config.ts';
import { exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { ControlError, requestGateway } from './control-request.ts';

const usage = 'postern-gateway sessions [--json] [--config FILE]';

/** Lists the sessions of the running gateway, one on each line, or as JSON. */
export function sessions(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values } = parseArgs({
      args,
      options: {
        config: { type: 'string', default: defaultConfigFile },
        json: { type: 'boolean', default: false },
      },
    });
    const { sessions: found, silent } = await listSessions(await loadConfig(values.config, io.env));
    if (values.json) io.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`);
    else for (const line of table(found)) io.stdout.write(`${line}\n`);
    if (silent.length === 0) return exits.ok;
    io.stderr.write(`postern-gateway: ${silent.join(', ')} did not answer; its sessions are missing above\n`);
    return exits.failure;
  });
}

/** A gateway of an older version has the list alone. */
async function listSessions(config: Config): Promise<ListedSessions> {
  try {
    return (await requestGateway(config, '/sessions-list')) as ListedSessions;
  } catch (error) {
    if (!(error instanceof ControlError) || error.status !== 404) throw error;
    return { sessions: (await requestGateway(config, '/sessions')) as SessionView[], silent: [] };
  }
}

function table(found: readonly SessionView[]): readonly string[] {
  const rows = found.map(({ id, subject, target, client, entry, state, since, detachedSince }) => [
    id,
    plain(subject ?? '-'),
    plain(target ?? '-'),
    client,
    entry,
    detachedSince === undefined
      ? state
      : `waits for its client since ${new Date(detachedSince).toISOString()}`,
    new Date(since).toISOString(),
  ]);
  const all = [['SESSION', 'SUBJECT', 'TARGET', 'CLIENT', 'ENTRY', 'STATE', 'SINCE'], ...rows];
  const widths = all[0]!.map((_, at) => Math.max(...all.map((row) => row[at]!.length)));
  return all.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at]!))
      .join('  ')
      .trimEnd(),
  );
}

/** The text as it is, unless it has characters that a terminal could interpret. */
function plain(text: string): string {
  return /^[\x21-\x7e]+$/.test(text) ? text : quote(text);
}
