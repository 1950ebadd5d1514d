import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Secret } from '../../protocol/secret.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { exchange } from '../exchange.ts';
import type { Answer } from '../exchange.ts';
import { Failure } from '../failure.ts';
import { printable } from '../printable.ts';
import type { Egress } from './egress.ts';
import { openTcp } from './tcp.ts';
import { openSecure } from './tls.ts';
import type { TrustSources } from './tls.ts';

/** An HTTP proxy that tunnels by CONNECT. */
export interface HttpProxy {
  readonly address: Target;
  /** Whether the connection to the proxy itself is TLS. */
  readonly tls: boolean;
  /** The value of `Proxy-Authorization`. */
  readonly credentials?: Secret;
}

/** Through an HTTP proxy; `trust` is for an https:// one. */
export function httpProxy(proxy: HttpProxy, trust: TrustSources = {}): Egress {
  const name = `${proxy.tls ? 'https' : 'http'}://${formatTarget(proxy.address)}`;
  return {
    name,
    async connect(gateway, signal) {
      const socket = await reach(proxy, { name, trust, signal });
      const authority = formatTarget(gateway);
      const headers = {
        Host: authority,
        ...(proxy.credentials === undefined ? {} : { 'Proxy-Authorization': proxy.credentials.reveal() }),
      };
      const question = { method: 'CONNECT', path: authority, headers, peer: name } as const;
      const answer = await exchange(socket, question, signal).catch((error: unknown) => {
        throw asProxyFailure(error);
      });
      if (answer.status >= 200 && answer.status < 300) return socket;
      socket.destroy();
      throw refusal(answer, proxy, { name, authority });
    },
  };
}

async function reach(
  proxy: HttpProxy,
  options: { name: string; trust: TrustSources; signal: AbortSignal },
): Promise<Socket> {
  const { name, trust, signal } = options;
  const peer = {
    address: proxy.address,
    name,
    unreachable: 'PROXY_UNREACHABLE',
    timeout: 'PROXY_UNREACHABLE',
  } as const;
  if (!proxy.tls) return openTcp(peer, signal);
  return openSecure(() => openTcp(peer, signal), proxy.address.host, { ...trust, signal });
}

function refusal(
  { response, status }: Answer,
  proxy: HttpProxy,
  names: { name: string; authority: string },
): Failure {
  const { name, authority } = names;
  if (status !== 407) {
    const by = signature(response);
    return new Failure('PROXY_REFUSED', `${name}${by} answered ${status} to CONNECT ${authority}`);
  }
  const schemes = offeredSchemes(response.headers['proxy-authenticate'] ?? []);
  const offers = schemes.length === 0 ? 'offers no way to sign in' : `offers ${schemes.join(', ')}`;
  if (!schemes.some((scheme) => scheme.toLowerCase() === 'basic')) {
    const help = schemes.length === 0 ? '' : '; a local px or cntlm can answer it';
    return new Failure('PROXY_SIGN_IN', `${name} wants a sign-in and ${offers}${help}`);
  }
  const asked =
    proxy.credentials === undefined ? 'wants a user name and password' : 'did not accept the password';
  return new Failure('PROXY_SIGN_IN', `${name} ${asked} and ${offers}`, {
    hint: `export HTTPS_PROXY=${name.replace('://', '://USER:PASSWORD@')}`,
  });
}

/** The authentication schemes named in `Proxy-Authenticate`, without their parameters. */
export function offeredSchemes(header: string | readonly string[]): string[] {
  const text = [header]
    .flat()
    .join(',')
    .replace(/"(?:[^"\\]|\\.)*"/g, '');
  const schemes = text
    .split(',')
    .flatMap((part) => /^\s*([A-Za-z][A-Za-z0-9-]*)(?:\s|$)(?!\s*=)/.exec(part)?.[1] ?? []);
  return [...new Set(schemes)].slice(0, 8);
}

/** The fault of a peer that cannot be the gateway: nothing of it has been reached yet. */
function asProxyFailure(error: unknown): unknown {
  if (!(error instanceof Failure) || error.code === 'GATEWAY_TIMEOUT') return error;
  return new Failure('PROXY_REFUSED', error.message, { cause: error });
}

function signature({ headers }: IncomingMessage): string {
  const by = headers.server ?? headers.via;
  return by === undefined ? '' : ` (${printable(String(by)).slice(0, 100)})`;
}
