import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top of the source tree. */
export const packageDirectory = fileURLToPath(new URL('../../../', import.meta.url));

/** The client as it is shipped, in the source tree; `npm run build` makes it. */
export const clientBundle = 'dist/postern.cjs';

/** The path of a program, also of those in the administrator's directories; undefined if it is not here. */
export function findProgram(name: string): string | undefined {
  const directories = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
  ];
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}

/**
 * What `describe` takes: `skip` with the names of everything that this machine lacks, of programs and of files of
 * the source tree (`dist/…`, which `npm run build` makes). With CI=true nothing is allowed to be missing: it throws.
 */
export function needs(...names: string[]): { skip: string | false } {
  const lacking = names.filter((name) =>
    name.includes('/') ? !existsSync(join(packageDirectory, name)) : findProgram(name) === undefined,
  );
  if (lacking.length === 0) return { skip: false };
  const message = `this machine lacks ${lacking.join(', ')}`;
  if (process.env['CI'] === 'true') throw new Error(message);
  process.stderr.write(`SKIPPED: ${message}\n`);
  return { skip: message };
}
