import { readFileSync } from 'node:fs';

/** Put in by the build; the sources themselves have it from package.json. */
declare const POSTERN_VERSION: string | undefined;

/** The version of this program. */
export const version: string = typeof POSTERN_VERSION === 'string' ? POSTERN_VERSION : packageVersion();

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
