import type { Socket } from 'node:net';
import type { HttpResponse } from '../../http/exchange.ts';
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

/** How many refusals with 407 are answered. NTLM needs two, a scheme that does not work before it the third. */
const maxRounds = 3;

/** The conversation with one proxy about one CONNECT. */
export interface ProxyConnector {
  /** What a message calls the proxy. */
  readonly name: string;
  readonly proxy: Target;
  readonly tls: boolean;
  /** `host:port` of the gateway. */
  readonly authority: string;
  readonly signal: AbortSignal;
  open(): Promise<Socket>;
  /** Asks for the tunnel; the socket is destroyed when it throws. */
  requestTunnel(socket: Socket, authorization: string | undefined): Promise<HttpResponse>;
  /** What an answer means that is neither yes nor 407. */
  refusal(answer: HttpResponse): ClientError;
}

/** A connection, and the 407 that has come by it. */
export interface ChallengedResponse {
  readonly socket: Socket;
  readonly answer: HttpResponse;
}

/**
 * Gets through a proxy that wants a sign-in. `first` is the 407 that said so; without it the proxy is known. Few at a
 * time sign in at one proxy. The caller owns the socket. Throws `PROXY_SIGN_IN` and what `line` throws.
 */
export async function connectSignedIn(
  line: ProxyConnector,
  sources: ProxyCredentialSources,
  { memory, first }: { readonly memory: ProxyMemory; readonly first?: ChallengedResponse },
): Promise<Socket> {
  const isReusable = first !== undefined && (await drain(first.answer.response, first.socket));
  if (!isReusable) first?.socket.destroy();
  const endTurn = await memory.signIns.acquire(line.signal).catch((cause: unknown) => {
    first?.socket.destroy();
    throw new ClientError('GATEWAY_TIMEOUT', `${line.name} takes too long over other sign-ins`, { cause });
  });
  try {
    let known = first && { offers: offersOf(first.answer), socket: isReusable ? first.socket : undefined };
    for (;;) {
      const signIn = signInOf(line, sources, memory);
      try {
        const socket = await negotiate(line, signIn, known);
        printStoringHint(memory);
        return socket;
      } catch (error) {
        if (!signIn.mayTryAgain) throw error;
        known = undefined;
      }
    }
  } finally {
    endTurn();
  }
}

/** What a proxy has offered, and the connection on which it did, where that can be used again. */
interface Known {
  readonly offers: readonly ProxyChallenge[];
  readonly socket: Socket | undefined;
}

async function negotiate(
  line: ProxyConnector,
  signIn: Negotiation,
  known: Known | undefined,
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
      // It said that the connection would stay, and closed it all the same.
      socket = await line.open();
      answer = await line.requestTunnel(socket, next);
    }
    if (answer.status >= 200 && answer.status < 300) {
      signIn.succeeded();
      return socket;
    }
    // What tinyproxy says to a wrong password.
    const isAsking = answer.status === 407 || (answer.status === 401 && next !== undefined);
    if (!isAsking) {
      socket.destroy();
      throw line.refusal(answer);
    }
    if (rounds === maxRounds) {
      socket.destroy();
      throw signIn.tooManyChallenges();
    }
    const isReusable = await drain(answer.response, socket);
    if (!isReusable) socket.destroy();
    now = { offers: offersOf(answer), socket: isReusable ? socket : undefined };
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

function offersOf({ response }: HttpResponse): readonly ProxyChallenge[] {
  const { 'proxy-authenticate': ofProxy, 'www-authenticate': ofServer } = response.headersDistinct;
  return parseChallenges(ofProxy ?? ofServer ?? []);
}

/** While somebody thinks about a password, a proxy may lose its patience. */
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
    `${name} closed the connection in the middle of a sign-in, which needs one connection from its start to its end`,
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
