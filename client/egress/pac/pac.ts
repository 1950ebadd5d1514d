import { fileURLToPath } from 'node:url';
import { isAbsolute } from 'node:path';
import { isIP } from 'node:net';
import type { Target } from '../../../protocol/target.ts';
import { ClientError } from '../../errors/failure.ts';
import { readSmall, reason } from '../../os/files.ts';
import { decodePac, fetchPac } from './pac-fetch.ts';
import { runPac } from './pac-run.ts';
import { parseProxy } from '../proxy/proxy-url.ts';
import type { Proxy, ProxyScheme, Hop } from '../proxy/proxy-url.ts';
import type { TrustSources } from '../tls/tls.ts';

/** Those of large companies have some 100 KiB. */
export const maxPacBytes = 1024 * 1024;

/** Further hops would be tried only when all of these fail. */
const maxHops = 8;

/** The answer of a PAC file. */
export interface PacAnswer {
  readonly hops: readonly Hop[];
  /** Why the hops are not the file's own: browsers connect directly then. */
  readonly problem?: string;
}

/**
 * Evaluates a PAC file for the gateway. As in browsers, the connection is direct where its function fails or names no
 * usable proxy. Throws `PAC_FAILED` for a file that cannot be run.
 */
export async function evaluatePac(script: string, gateway: Target, signal: AbortSignal): Promise<PacAnswer> {
  const { host, port } = gateway;
  const authority = `${isIP(host) === 6 ? `[${host}]` : host}${port === 443 ? '' : `:${port}`}`;
  // Browsers pass no more of an https URL than this.
  const outcome = await runPac({ script, url: `https://${authority}/`, host }, signal);
  if ('failed' in outcome) return { hops: ['direct'], problem: `the PAC file ${outcome.failed}` };
  // Browsers take a result that is not ASCII for no result.
  const hops = isAscii(outcome.result) ? parsePacResult(outcome.result) : [];
  return hops.length > 0 ? { hops } : { hops: ['direct'], problem: 'the PAC file names no supported proxy' };
}

/** Reads the PAC file at a URL or an absolute path. Throws `PAC_FAILED`. */
export async function readPac(location: string, trust: TrustSources, signal: AbortSignal): Promise<string> {
  if (/^https?:\/\//i.test(location)) {
    if (!URL.canParse(location)) throw new ClientError('PAC_FAILED', 'the PAC file URL is not valid');
    return fetchPac(new URL(location), trust, signal);
  }
  try {
    const path = /^file:/i.test(location) ? fileURLToPath(location) : location;
    if (!isAbsolute(path)) throw new Error('it is neither a URL nor an absolute path');
    return decodePac(readSmall(path, maxPacBytes).bytes);
  } catch (cause) {
    throw new ClientError('PAC_FAILED', `cannot read the PAC file: ${reason(cause)}`, { cause });
  }
}

/** As in browsers, `SOCKS` means version 4. The proxy resolves names where it can, so that no DNS is needed here. */
const schemes: Readonly<Record<string, ProxyScheme>> = {
  PROXY: 'http',
  HTTP: 'http',
  HTTPS: 'https',
  SOCKS: 'socks4a',
  SOCKS4: 'socks4a',
  SOCKS5: 'socks5h',
};

/** Parses `PROXY a:3128; SOCKS b; DIRECT`. An empty text means direct; directives that are not supported are skipped. */
export function parsePacResult(result: string): readonly Hop[] {
  const directives = result.split(';').flatMap((each) => withoutBlanks(each) || []);
  if (directives.length === 0) return ['direct'];
  return directives.flatMap((directive) => parseDirective(directive) ?? []).slice(0, maxHops);
}

function isAscii(text: string): boolean {
  return Buffer.byteLength(text) === text.length;
}

/** Not a URL, and no other than visible characters. */
function isHostAndPort(text: string): boolean {
  return /^[!-~]+$/.test(text) && !/[@/?#\\]|:$/.test(text);
}

/** Blanks and tabs only: with another character in front, browsers know no directive. */
function withoutBlanks(text: string): string {
  return text.replace(/^[ \t]+/, '').replace(/(?<![ \t])[ \t]+$/, '');
}

function parseDirective(directive: string): Hop | undefined {
  const [kind = '', address, ...more] = directive.split(/[ \t]+/);
  if (kind.toUpperCase() === 'DIRECT')
    return more.length === 0 && address === undefined ? 'direct' : undefined;
  const scheme = schemes[kind.toUpperCase()];
  // A PAC file comes from the network: it must not set passwords. Nor does it name URLs.
  if (scheme === undefined || address === undefined || more.length > 0 || !isHostAndPort(address))
    return undefined;
  try {
    return parseProxy(`${scheme}://${address}`, 'the PAC file') satisfies Proxy;
  } catch {
    return undefined;
  }
}
