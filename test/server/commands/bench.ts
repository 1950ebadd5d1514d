import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import type { TestContext } from 'node:test';
import type { Command } from '../../../server/commands/command.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory that ends with the test, with these files in it. */
export async function directoryWith(
  t: TestContext,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'postern-commands-'));
  t.after(() => rm(path, { recursive: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text, { mode: 0o600 });
  return path;
}

/** Runs a subcommand as the process would, and keeps what it says. */
export async function run(
  command: Command,
  args: string[],
  env: Record<string, string> = {},
  input = '',
): Promise<Ran> {
  const said = { stdout: '', stderr: '' };
  const keep = (name: keyof typeof said) =>
    new Writable({
      write(chunk: Buffer, _, done) {
        said[name] += chunk.toString();
        done();
      },
    });
  const code = await command(args, {
    stdin: Readable.from(input === '' ? [] : [Buffer.from(input)]),
    stdout: keep('stdout'),
    stderr: keep('stderr'),
    env,
  });
  return { code, ...said };
}
