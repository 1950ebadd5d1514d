import { readFileSync } from 'node:fs';

/** The version of this package; its package.json is two folders up in the source, three in what is built. */
export const version: string = readVersion();

function readVersion(): string {
  for (const path of ['../../package.json', '../../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as Record<
        string,
        string
      >;
      if (name === 'postern' && version) return version;
    } catch {
      // Not there; try the next path.
    }
  }
  return 'unknown';
}
