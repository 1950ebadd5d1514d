import type { Readable, Writable } from 'node:stream';
import { TunnelError } from '../../protocol/errors.ts';
import { ConfigError } from '../config/config-error.ts';

/** The parts of the process that a subcommand can use. */
export interface CommandIo {
  readonly stdin: Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown };
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Runs a subcommand with the arguments after its name; resolves to the exit code. */
export type Command = (args: string[], io: CommandIo) => Promise<number>;

/** Exit codes of the gateway's subcommands. */
export const exits = { ok: 0, failure: 1, usage: 2, denied: 77 } as const;

/** Arguments that the command does not accept. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Runs a command, and turns mistakes of the operator into lines on stderr and exit code 2. */
export async function runCommand(io: CommandIo, usage: string, run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof ConfigError) {
      io.stderr.write(`${error.format()}\n`);
      return exits.usage;
    }
    if (error instanceof TunnelError) {
      io.stderr.write(`postern-gateway: ${error.message} (${error.code})\n`);
      return error.code === 'STORE_UNAVAILABLE' ? exits.failure : exits.usage;
    }
    if (!isUsageError(error)) throw error;
    io.stderr.write(`postern-gateway: ${error.message}\nusage: ${usage}\n`);
    return exits.usage;
  }
}

function isUsageError(error: unknown): error is Error {
  const code = (error as { code?: unknown }).code;
  return error instanceof UsageError || (typeof code === 'string' && code.startsWith('ERR_PARSE_ARGS_'));
}
