import { fileURLToPath } from 'node:url';
import { isAbsolute } from 'node:path';
import { isIP } from 'node:net';
import type { Target } from '../../../protocol/target.ts';
import { ClientError } from '../../errors/failure.ts';
import { readSmall, reason } from '../../os/files.ts';
import { fetchPac } from './pac-fetch.ts';
import { runPac } from './pac-run.ts';
import { parseProxy } from '../proxy/proxy-url.ts';
import type { Proxy, ProxyScheme, Hop } from '../proxy/proxy-url.ts';
import type { TrustSources } from '../tls/tls.ts';

/** Those of large companies have some 100 KiB. */
export const maxPacBytes = 1024 * 1024;

/** Further hops would be tried only when all of these fail. */
const maxHops = 8;

/** Evaluates the PAC file at a URL or an absolute path for the gateway. Throws `PAC_FAILED`. */
export async function evaluatePac(
  location: string,
  {
    gateway,
    trust,
    signal,
  }: { readonly gateway: Target; readonly trust: TrustSources; readonly signal: AbortSignal },
): Promise<readonly Hop[]> {
  const script = await readPac(location, trust, signal);
  const host = isIP(gateway.host) === 6 ? `[${gateway.host}]` : gateway.host;
  // Browsers pass no more of an https URL than this.
  const url = `https://${host}${gateway.port === 443 ? '' : `:${gateway.port}`}/`;
  const result = await runPac({ script, url, host: gateway.host }, signal);
  return parsePacResult(result);
}

async function readPac(location: string, trust: TrustSources, signal: AbortSignal): Promise<string> {
  if (/^https?:\/\//i.test(location)) {
    if (!URL.canParse(location)) throw new ClientError('PAC_FAILED', 'the PAC file URL is not valid');
    return fetchPac(new URL(location), trust, signal);
  }
  try {
    const path = /^file:/i.test(location) ? fileURLToPath(location) : location;
    if (!isAbsolute(path)) throw new Error('it is neither a URL nor an absolute path');
    return readSmall(path, maxPacBytes).bytes.toString();
  } catch (cause) {
    throw new ClientError('PAC_FAILED', `cannot read the PAC file: ${reason(cause)}`, { cause });
  }
}

const schemes: Readonly<Record<string, ProxyScheme>> = {
  PROXY: 'http',
  HTTP: 'http',
  HTTPS: 'https',
  SOCKS: 'socks5h',
  SOCKS4: 'socks4a',
  SOCKS5: 'socks5h',
};

/** Parses `PROXY a:3128; SOCKS b; DIRECT`. An empty text means direct. Throws `PAC_FAILED` when no directive is usable. */
export function parsePacResult(result: string): readonly Hop[] {
  const directives = result.split(';').flatMap((each) => each.trim() || []);
  if (directives.length === 0) return ['direct'];
  const hops = directives.slice(0, maxHops).flatMap((directive) => parseDirective(directive) ?? []);
  if (hops.length > 0) return hops;
  throw new ClientError('PAC_FAILED', 'the PAC file names no supported proxy');
}

function parseDirective(directive: string): Hop | undefined {
  const [kind = '', address, ...more] = directive.split(/\s+/);
  if (kind.toUpperCase() === 'DIRECT') return 'direct';
  const scheme = schemes[kind.toUpperCase()];
  // A PAC file comes from the network: it must not set passwords.
  if (scheme === undefined || address === undefined || more.length > 0 || address.includes('@'))
    return undefined;
  try {
    return parseProxy(`${scheme}://${address}`, 'the PAC file') satisfies Proxy;
  } catch {
    return undefined;
  }
}
