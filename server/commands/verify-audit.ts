import { constants, createReadStream } from 'node:fs';
import { access } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { brokenLinks } from '../audit/audit-file.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

const usage = 'postern-gateway verify-audit FILE';

/** `postern-gateway verify-audit FILE`: exits 0 when the chain of the file is intact, else 1. */
export function verifyAudit(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const [file] = args;
    if (file === undefined || args.length !== 1) throw new UsageError('verify-audit takes one file');
    await access(file, constants.R_OK).catch((cause: unknown) => {
      throw new UsageError(`${file} cannot be read`, { cause });
    });
    let problems = 0;
    for await (const { line, why } of brokenLinks(createInterface({ input: createReadStream(file) }))) {
      problems++;
      io.stdout.write(`${file}:${line}: ${why}\n`);
    }
    if (problems === 0) io.stdout.write(`${file}: every line is intact\n`);
    return problems === 0 ? exits.ok : exits.failure;
  });
}
