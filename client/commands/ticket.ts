import { parseArgs } from '../../base/parse-args.ts';
import { formatTarget, parseTarget } from '../../protocol/target.ts';
import { requestApi } from '../connect/gateway-api.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { gatewayOptions, settingsWith } from './options.ts';

const unitSeconds: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600 };

/** Runs `postern ticket`: prints a ticket for programs that can only send a password. */
export async function ticket(
  args: readonly string[],
  env: Environment,
  print: (text: string) => void,
): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { ...gatewayOptions, ttl: { type: 'string' }, uses: { type: 'string' } },
    allowPositionals: true,
  });
  if (positionals.length === 0) throw usage('ticket needs a host');
  const targets = positionals.map((text) => formatTarget(parseTarget(text)));
  const [ttlSeconds, uses] = [parseSeconds(values.ttl ?? '5m'), parseUses(values.uses ?? '1')];
  const answer = await requestApi(settingsWith(values, env), 'api/tickets', { targets, ttlSeconds, uses });
  const { ticket: text, expiresAt } = answer;
  // It is printed to a terminal and copied into other programs.
  if (typeof text !== 'string' || !/^[\w.~+/-]{1,64}$/.test(text) || typeof expiresAt !== 'string')
    throw new ClientError('HTTP_UNEXPECTED', 'the gateway did not answer with a ticket');
  const until = new Date(expiresAt);
  if (Number.isNaN(until.getTime())) throw new ClientError('HTTP_UNEXPECTED', 'the ticket has no expiry');
  if (values.json === true) {
    print(`${JSON.stringify({ version: 1, ticket: text, expiresAt: until.toISOString() }, undefined, 2)}\n`);
    return 0;
  }
  print(`${text}\n`);
  writeStderr(`postern: valid ${uses === 1 ? 'once' : `${uses} times`} until ${until.toISOString()}\n`);
  return 0;
}

/** `90s`, `5m` or `1h` in seconds. Throws `USAGE`. */
export function parseSeconds(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,5})([smh])$/.exec(text) ?? [];
  if (count === undefined) throw usage('--ttl must be a time like 90s, 5m or 1h');
  return Number(count) * unitSeconds[unit!]!;
}

function parseUses(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw usage('--uses must be a number');
}

function usage(what: string): ClientError {
  return new ClientError('USAGE', what, { hint: 'postern ticket --help' });
}
