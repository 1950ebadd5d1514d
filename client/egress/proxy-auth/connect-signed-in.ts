import type { Socket } from 'node:net';
import { requestsSignIn } from '../proxy/connect-response.ts';
import type { ConnectResponse } from '../proxy/connect-response.ts';
import { ClientError } from '../../errors/failure.ts';
import type { Target } from '../../../protocol/target.ts';
import { parseChallenges } from './challenge.ts';
import type { ProxyChallenge } from './challenge.ts';
import { drain } from './drain.ts';
import { dropCredentials, findCredentials, printStoringHint } from './find-credentials.ts';
import type { ProxyCredentialSources } from './find-credentials.ts';
import { loadKerberos } from './kerberos-package.ts';
import type { ProxyMemory } from './proxy-state.ts';
import { Refusals } from './rejected-passwords.ts';
import { Negotiation } from './negotiation.ts';

/** How many 407 responses are answered. NTLM needs two, and a scheme that fails before it the third. */
const maxRounds = 3;

/** Opens connections to one proxy and sends CONNECT on them. */
export interface ProxyConnector {
  /** The proxy's name in messages. */
  readonly name: string;
  readonly proxy: Target;
  readonly tls: boolean;
  /** `host:port` of the gateway. */
  readonly authority: string;
  readonly signal: AbortSignal;
  open(): Promise<Socket>;
  /** Sends the CONNECT request; the socket is destroyed when it throws. */
  requestTunnel(socket: Socket, authorization: string | undefined): Promise<ConnectResponse>;
  /** The error for a response that is neither a success nor a 407. */
  refusal(answer: ConnectResponse): ClientError;
}

/** A connection, and the 407 response received on it. */
export interface ChallengedResponse {
  readonly socket: Socket;
  readonly answer: ConnectResponse;
}

/**
 * Connects through a proxy that requires a sign-in. `first` is the 407 response that said so; without it the proxy is
 * known. Only a few sign in to one proxy at a time. The caller owns the socket. Throws `PROXY_SIGN_IN` and what `line` throws.
 */
export async function connectSignedIn(
  line: ProxyConnector,
  sources: ProxyCredentialSources,
  { memory, first }: { readonly memory: ProxyMemory; readonly first?: ChallengedResponse },
): Promise<Socket> {
  const isReusable = first !== undefined && (await drain(first.answer, first.socket));
  if (!isReusable) first?.socket.destroy();
  const release = await memory.signIns.acquire(line.signal).catch((cause: unknown) => {
    first?.socket.destroy();
    throw new ClientError('GATEWAY_TIMEOUT', `other sign-ins to ${line.name} take too long`, { cause });
  });
  try {
    let known = first && {
      offers: offersOf(first.answer, sources),
      socket: isReusable ? first.socket : undefined,
    };
    for (;;) {
      const signIn = signInOf(line, sources, memory);
      try {
        const socket = await negotiate(line, sources, { signIn, known });
        printStoringHint(memory);
        return socket;
      } catch (error) {
        if (!signIn.mayTryAgain) throw error;
        known = undefined;
      }
    }
  } finally {
    release();
  }
}

/** The challenges of a proxy, and the connection they came by, where that can be used again. */
interface Known {
  readonly offers: readonly ProxyChallenge[];
  readonly socket: Socket | undefined;
}

async function negotiate(
  line: ProxyConnector,
  sources: ProxyCredentialSources,
  { signIn, known }: { readonly signIn: Negotiation; readonly known: Known | undefined },
): Promise<Socket> {
  let next = known === undefined ? await signIn.preemptive() : undefined;
  let now = known;
  for (let rounds = known === undefined ? 0 : 1; ; rounds++) {
    let socket = now?.socket;
    let continues = false;
    if (now !== undefined) {
      ({ authorization: next, continues } = await replyTo(now, signIn));
    }
    if (socket !== undefined && !isOpen(socket)) socket = undefined;
    if (socket === undefined && continues) throw brokenOff(line);
    const isFresh = socket === undefined;
    socket ??= await line.open();
    let answer;
    try {
      answer = await line.requestTunnel(socket, next);
    } catch (error) {
      if (isFresh || continues || !isClosing(error)) throw error;
      // The proxy announced a persistent connection, and closed it nevertheless.
      socket = await line.open();
      answer = await line.requestTunnel(socket, next);
    }
    if (answer.status >= 200 && answer.status < 300) {
      signIn.recordSuccess();
      return socket;
    }
    // tinyproxy answers 401 to a wrong password.
    const isAsking = answer.status === 407 || (requestsSignIn(answer) && next !== undefined);
    if (!isAsking) {
      socket.destroy();
      throw line.refusal(answer);
    }
    if (rounds === maxRounds) {
      socket.destroy();
      throw signIn.tooManyChallenges();
    }
    const isReusable = await drain(answer, socket);
    if (!isReusable) socket.destroy();
    now = { offers: offersOf(answer, sources), socket: isReusable ? socket : undefined };
  }
}

async function replyTo(
  { offers, socket }: Known,
  signIn: Negotiation,
): Promise<{ authorization: string; continues: boolean }> {
  try {
    return await signIn.reply(offers);
  } catch (error) {
    socket?.destroy();
    throw error;
  }
}

/** A refusal that offers nothing known, where name and password are known, is taken for one of Basic, as curl does. */
function offersOf(answer: ConnectResponse, { given }: ProxyCredentialSources): readonly ProxyChallenge[] {
  const [ofProxy, ofServer] = [answer.values('proxy-authenticate'), answer.values('www-authenticate')];
  const offers = parseChallenges(ofProxy.length > 0 ? ofProxy : ofServer);
  const isKnown = offers.some(({ scheme }) => ['basic', 'digest', 'ntlm', 'negotiate'].includes(scheme));
  return isKnown || given === undefined ? offers : [{ scheme: 'basic', params: new Map() }];
}

/** Whether the connection is still usable: while a person types a password, a proxy can time out. */
function isOpen(socket: Socket): boolean {
  return !socket.destroyed && !socket.readableEnded && socket.writable;
}

function isClosing(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (['ECONNRESET', 'EPIPE'].includes((cause as NodeJS.ErrnoException).code ?? '')) return true;
  }
  return false;
}

function brokenOff({ name }: ProxyConnector): ClientError {
  return new ClientError(
    'PROXY_REFUSED',
    `${name} closed the connection during a sign-in that needs a single connection`,
  );
}

function signInOf(line: ProxyConnector, sources: ProxyCredentialSources, memory: ProxyMemory): Negotiation {
  const { name, proxy, tls, authority, signal } = line;
  return new Negotiation({
    name,
    request: { proxyHost: proxy.host, authority },
    memory,
    ...(sources.given && { given: sources.given }),
    find: (wanted) => findCredentials({ name, proxy, tls }, sources, { memory, wanted, signal }),
    drop: (refused) => dropCredentials(refused, sources, memory),
    ...(sources.signIn.state === undefined ? {} : { refusals: new Refusals(sources.signIn.state) }),
    loadKerberos,
    platform: process.platform,
  });
}
