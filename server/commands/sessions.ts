import { parseArgs } from '../../base/parse-args.ts';
import { quote } from '../../protocol/target.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import type { SessionView } from '../admin/control.ts';
import { exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { requestGateway } from './control-request.ts';

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
    const found = (await requestGateway(
      await loadConfig(values.config, io.env),
      '/sessions',
    )) as SessionView[];
    if (values.json) io.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`);
    else for (const line of table(found)) io.stdout.write(`${line}\n`);
    return exits.ok;
  });
}

function table(found: readonly SessionView[]): readonly string[] {
  const rows = found.map(({ id, subject, target, client, entry, state, since }) => [
    id,
    plain(subject ?? '-'),
    plain(target ?? '-'),
    client,
    entry,
    state,
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
