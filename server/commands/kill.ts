import { printableJson } from '../../base/printable-json.ts';
import { parseArgs } from '../../base/parse-args.ts';
import type { KillResult, RevokedView } from '../admin/control.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { requestGateway } from './control-request.ts';

const usage =
  'postern-gateway kill (SESSION… | --subject S [--revoke] | --target HOST[:PORT] | --token ID | --key THUMBPRINT) [--reason TEXT] [--json] [--config FILE]';

type KillAnswer = KillResult & { readonly silent?: number; readonly processes?: readonly string[] };

/** Ends sessions of the running gateway. Exits 1 when there were none, unless something was revoked. */
export function kill(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        config: { type: 'string', default: defaultConfigFile },
        subject: { type: 'string' },
        target: { type: 'string' },
        token: { type: 'string' },
        key: { type: 'string' },
        revoke: { type: 'boolean', default: false },
        reason: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    });
    const { subject, target, token, key, revoke, reason, json } = values;
    if (positionals.length === 0 && (subject ?? target ?? token ?? key) === undefined)
      throw new UsageError('name sessions, --subject, --target, --token or --key');
    if (revoke && (subject === undefined || target !== undefined || positionals.length > 0))
      throw new UsageError('--revoke needs --subject, and nothing else');
    const config = await loadConfig(values.config, io.env);
    const result = (await requestGateway(config, '/kill', {
      ...(positionals.length > 0 && { sessions: positionals }),
      subject,
      target,
      tokenId: token,
      keyThumbprint: key,
      revoke,
      reason,
    })) as KillAnswer;
    const { ended, silent = 0, processes, revoked } = result;
    const what = revoke
      ? `everything issued to ${subject}`
      : token === undefined
        ? `key ${key}`
        : `token ${token}`;
    if (json) io.stdout.write(`${printableJson(toJson(result), 2)}\n`);
    else for (const line of linesOf(result, what, config.issuers.length > 0)) io.stdout.write(`${line}\n`);
    const problems = [
      ...(revoked ? storeProblems(revoked) : []),
      ...(silent > 0 ? [silentProblem(silent, processes)] : []),
    ];
    for (const problem of problems) io.stderr.write(`postern-gateway: ${problem}\n`);
    if (problems.length > 0) return exits.failure;
    return ended > 0 || revoke || (token ?? key) !== undefined ? exits.ok : exits.failure;
  });
}

function linesOf({ ended, revoked }: KillResult, what: string, hasOtherIssuers: boolean): readonly string[] {
  const sessions = ended === 1 ? 'session' : 'sessions';
  // A gateway of an earlier version says no more.
  if (!revoked) return [`${ended} ${sessions} ended`];
  const { issuedUntil, otherIssuersUntil } = revoked;
  const until = issuedUntil === undefined ? '' : ` until ${formatTime(issuedUntil)}`;
  const line = `Revoked ${what}${until}. ${ended} open ${sessions} ended.`;
  if (!hasOtherIssuers || issuedUntil === undefined || otherIssuersUntil === undefined) return [line];
  return [
    line,
    `Tokens of other issuers, whose clocks can be ahead, are refused if they were issued until ${formatTime(otherIssuersUntil)}.`,
  ];
}

function storeProblems({ stored, why }: RevokedView): readonly string[] {
  if (stored) return [];
  return [
    `the revocation is not stored yet: ${why ?? 'the store cannot be written'}`,
    'it holds in the memory of the running gateway, which tries again until it is written; do not stop the gateway before /readyz answers "ready"',
  ];
}

function silentProblem(silent: number, processes?: readonly string[]): string {
  const named = processes?.join(', ') ?? (silent === 1 ? 'a process' : `${silent} processes`);
  return `${named} of the gateway did not answer, and can have more of these sessions`;
}

function toJson({ ended, silent = 0, processes, revoked }: KillAnswer): object {
  const counts = { ended, silent, ...(processes && { processes }) };
  if (!revoked) return counts;
  const { issuedUntil, otherIssuersUntil, keptUntil, stored, why } = revoked;
  const times = Object.entries({ issuedUntil, otherIssuersUntil, keptUntil }).flatMap(([name, time]) =>
    time === undefined ? [] : [[name, new Date(time).toISOString()]],
  );
  return {
    ...counts,
    revoked: { ...Object.fromEntries(times), stored, ...(why !== undefined && { why }) },
  };
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

/** Local time, and the date where it is not today's. */
function formatTime(time: number): string {
  const at = new Date(time);
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':');
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday ? clock : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}
