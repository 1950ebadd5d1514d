import type { Socket } from 'node:net';
import { definedOnly } from '../../../base/defined-only.ts';
import { Secret } from '../../../protocol/secret.ts';
import { formatTarget } from '../../../protocol/target.ts';
import type { Target } from '../../../protocol/target.ts';
import { unavailability } from '../../http/refusal.ts';
import { ClientError } from '../../errors/failure.ts';
import { printable } from '../../os/terminal.ts';
import type { Egress } from '../egress.ts';
import { requestsSignIn, requestConnect } from './connect-response.ts';
import type { ConnectResponse } from './connect-response.ts';
import type { ProxySignIn } from '../proxy-auth/credentials.ts';
import type { ChallengedResponse, ProxyConnector } from '../proxy-auth/connect-signed-in.ts';
import type { ProxyCredentialSources } from '../proxy-auth/find-credentials.ts';
import { networkId } from '../../os/network-id.ts';
import { networkLookup } from '../tcp/dns-cache.ts';
import { openTcp } from '../tcp/tcp.ts';
import { openSecure, tunnelledBy } from '../tls/tls.ts';
import type { TrustSources } from '../tls/tls.ts';

/** An HTTP proxy that tunnels by CONNECT. */
export interface HttpProxy {
  readonly address: Target;
  /** Whether the connection to the proxy itself is TLS. */
  readonly tls: boolean;
  /** From its URL; either can be missing. */
  readonly user?: string;
  readonly password?: Secret;
}

/** The proxies that have required a sign-in from this process. */
const requiringSignIn = new Set<string>();

/** The egress through an HTTP proxy; `trust` is for an https:// one, `signIn` complements the user in its URL. */
export function httpProxy(
  proxy: HttpProxy,
  trust: TrustSources = {},
  signIn: ProxySignIn = { isPromptAllowed: false },
): Egress {
  const name = `${proxy.tls ? 'https' : 'http'}://${formatTarget(proxy.address)}`;
  const sources = signInSources(proxy, signIn);
  return {
    name,
    async connect(gateway, signal) {
      const socket = await tunnel(gateway, signal);
      tunnelledBy.set(socket, name);
      return socket;
    },
  };

  async function tunnel(gateway: Target, signal: AbortSignal): Promise<Socket> {
    const authority = formatTarget(gateway);
    const line: ProxyConnector = {
      name,
      proxy: proxy.address,
      tls: proxy.tls,
      authority,
      signal,
      open: () => reach(proxy, { name, trust, signal }),
      requestTunnel: (socket, authorization) =>
        requestTunnel(socket, authorization, { authority, name, signal }),
      refusal: (answer) => refusal(answer, { name, authority }),
    };
    if (requiringSignIn.has(name)) return signedIn(line, sources);
    const socket = await line.open();
    const answer = await line.requestTunnel(socket, undefined);
    if (answer.status >= 200 && answer.status < 300) return socket;
    if (isSignInRequired(answer, sources)) {
      requiringSignIn.add(name);
      return signedIn(line, sources, { socket, answer });
    }
    socket.destroy();
    throw line.refusal(answer);
  }
}

/** With a user name and password for this proxy, other refusals can be the same question as 407. */
function isSignInRequired(answer: ConnectResponse, { given }: ProxyCredentialSources): boolean {
  return answer.status === 407 || (given !== undefined && requestsSignIn(answer));
}

/** Loads the sign-in code only when a proxy requires it. */
async function signedIn(
  line: ProxyConnector,
  sources: ProxyCredentialSources,
  first?: ChallengedResponse,
): Promise<Socket> {
  const { connectSignedIn } = await import('../proxy-auth/connect-signed-in.ts');
  const { memoryOf } = await import('../proxy-auth/proxy-state.ts');
  const memory = memoryOf(line.name, sources.given?.user ?? sources.user);
  return connectSignedIn(line, sources, { memory, ...(first && { first }) });
}

/** The proxy's URL has precedence over the environment, which is for all proxies. */
function signInSources(proxy: HttpProxy, signIn: ProxySignIn): ProxyCredentialSources {
  const user = proxy.user || signIn.user;
  const ofUrl = proxy.password?.reveal() ? proxy.password : undefined;
  const ofEnvironment = proxy.user && signIn.user && proxy.user !== signIn.user ? undefined : signIn.password;
  const password = ofUrl ?? ofEnvironment;
  if (user === undefined || password === undefined) return { signIn, ...(user && { user }) };
  const source = ofUrl ? "the proxy's URL" : 'POSTERN_PROXY_PASSWORD';
  return { signIn, given: { user, password, source } };
}

async function requestTunnel(
  socket: Socket,
  authorization: string | undefined,
  options: { readonly authority: string; readonly name: string; readonly signal: AbortSignal },
): Promise<ConnectResponse> {
  const { authority, name, signal } = options;
  const fields = {
    // Old proxies close after a refusal, and a sign-in of several steps needs one connection.
    'Proxy-Connection': 'keep-alive',
    'Proxy-Authorization': authorization,
  };
  return requestConnect(socket, { authority, fields, peer: name }, signal).catch((error: unknown) => {
    throw asProxyFailure(error, authorization !== undefined);
  });
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
    lookup: networkLookup(networkId),
  } as const;
  if (!proxy.tls) return openTcp(peer, signal);
  return openSecure(() => openTcp(peer, signal), proxy.address.host, { ...trust, signal });
}

function refusal(
  response: ConnectResponse,
  { name, authority }: { readonly name: string; readonly authority: string },
): ClientError {
  return new ClientError(
    'PROXY_REFUSED',
    `${name}${signature(response)} answered ${response.status} to CONNECT ${authority}`,
    unavailability(response.status, {
      'retry-after': response.values('retry-after')[0],
      date: response.values('date')[0],
    }),
  );
}

/** Attributes a failure to the proxy: the gateway has not been reached yet. */
function asProxyFailure(error: unknown, isSignedIn: boolean): unknown {
  if (!(error instanceof ClientError) || error.code === 'GATEWAY_TIMEOUT') return error;
  const { interruption } = error;
  // A proxy that closes after a wrong password must not be sent it until the account is locked.
  const repeatable = isSignedIn && interruption ? { ...interruption, repeats: 1 } : interruption;
  return new ClientError('PROXY_REFUSED', error.message, {
    cause: error,
    ...definedOnly({ interruption: repeatable }),
  });
}

function signature(response: ConnectResponse): string {
  const by = response.values('server')[0] ?? response.values('via')[0];
  return by === undefined ? '' : ` (${printable(by).slice(0, 100)})`;
}
