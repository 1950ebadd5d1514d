import { readFileSync } from 'node:fs';

/** Defined by the build; the sources read it from package.json. */
declare const POSTERN_VERSION: string | undefined;

/** The version of this program. */
export const version: string = typeof POSTERN_VERSION === 'string' ? POSTERN_VERSION : packageVersion();

/** The `User-Agent` field of requests to the gateway. */
export const userAgent = `postern/${version}`;

function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
