import { parseArgs } from '../../base/parse-args.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { requestGateway } from './control-request.ts';

const usage =
  'postern-gateway kill (SESSION… | --subject S [--revoke] | --target HOST[:PORT] | --token ID | --key THUMBPRINT) [--reason TEXT] [--config FILE]';

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
      },
    });
    const { subject, target, token, key, revoke, reason } = values;
    if (positionals.length === 0 && (subject ?? target ?? token ?? key) === undefined)
      throw new UsageError('name sessions, --subject, --target, --token or --key');
    if (revoke && (subject === undefined || target !== undefined || positionals.length > 0))
      throw new UsageError('--revoke needs --subject, and nothing else');
    const {
      ended,
      silent = 0,
      processes,
    } = (await requestGateway(await loadConfig(values.config, io.env), '/kill', {
      ...(positionals.length > 0 && { sessions: positionals }),
      subject,
      target,
      tokenId: token,
      keyThumbprint: key,
      revoke,
      reason,
    })) as { ended: number; silent?: number; processes?: readonly string[] };
    io.stdout.write(`${ended} ${ended === 1 ? 'session' : 'sessions'} ended\n`);
    if (silent > 0) {
      const named = processes?.join(', ') ?? (silent === 1 ? 'a process' : `${silent} processes`);
      io.stderr.write(
        `postern-gateway: ${named} of the gateway did not answer, and can have more of these sessions\n`,
      );
      return exits.failure;
    }
    return ended > 0 || revoke || (token ?? key) !== undefined ? exits.ok : exits.failure;
  });
}
