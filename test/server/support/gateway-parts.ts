import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { WorkPacer } from '../../../base/work-pacer.ts';
import { TunnelError } from '../../../protocol/errors.ts';
import type { AuthenticationContext, Authenticator } from '../../../server/auth/authenticator.ts';
import { jwtAuthenticator } from '../../../server/auth/jwt/jwt-authenticator.ts';
import type { Revocations } from '../../../server/auth/revocations.ts';
import type { Limits } from '../../../server/config/config.ts';
import type { Dialer } from '../../../server/dial/dialer.ts';
import type { Incoming } from '../../../server/entry/entry.ts';
import { plainEntries, requestEntries } from '../../../server/entry/index.ts';
import { openLimiter } from '../../../server/gateway/limiter.ts';
import { handlePlainRequest } from '../../../server/http/plain-routes.ts';
import { remoteAddressBehind } from '../../../server/http/client-address.ts';
import { handleTunnelRequests } from '../../../server/http/upgrade-dispatcher.ts';
import { resumeTunnel, openTunnel } from '../../../server/pipeline.ts';
import type { PipelineSettings } from '../../../server/pipeline.ts';
import { ResumableTunnels } from '../../../server/resume/resumable-tunnels.ts';
import type { ResumableTunnelsOptions } from '../../../server/resume/resumable-tunnels.ts';
import { localLocator } from '../../../server/resume/local-locator.ts';
import type { TunnelLocator } from '../../../server/resume/tunnel-locator.ts';
import type { Offer, ResumeOffer } from '../../../server/session/offer.ts';
import { Sessions } from '../../../server/session/sessions.ts';
import type { SessionObserver, SessionRecord } from '../../../server/session/sessions.ts';

export const generousLimits: Limits = {
  tunnels: 1000,
  perSubject: 1000,
  perAddress: 1000,
  preAuthMs: 5000,
  dialMs: 5000,
  sessionMs: 3_600_000,
  graceMs: 1000,
};

/** A request on a connection of loopback. */
export const loopbackContext: AuthenticationContext = {
  peer: { address: '127.0.0.1', localAddress: '127.0.0.1' },
};

/** An authenticator of tokens, with the challenge of the gateway's own. */
export function tokenAuthenticator(authenticate: Authenticator['authenticate']): Authenticator {
  const { challenge } = jwtAuthenticator([]);
  return { kinds: ['token'], challenge, authenticate };
}

/** Accepts the token `good`, as the subject `alice`. */
export const oneToken: Authenticator = tokenAuthenticator(async (credentials) => {
  if (credentials.length === 0) throw new TunnelError('TOKEN_MISSING', 'no token');
  const [credential] = credentials;
  if (credential?.kind !== 'token' || credential.token.reveal() !== 'good') {
    throw new TunnelError('TOKEN_INVALID', 'bad token');
  }
  return {
    issuer: 'test',
    subject: 'alice',
    groups: new Set(),
    issuedAt: new Date(),
    expiresAt: new Date(Date.now() + 60_000),
  };
});

/** Dials the port of the target on loopback. */
export const loopbackDialer: Dialer = {
  async dial({ address }, signals) {
    const socket = connect({ host: '127.0.0.1', port: address.port, allowHalfOpen: true });
    socket.on('error', () => {});
    await once(socket, 'connect', { signal: AbortSignal.any([...signals]) });
    return socket;
  },
};

export interface Parts {
  readonly server: Server;
  readonly port: number;
  readonly sessions: Sessions;
  readonly relays: ResumableTunnels;
  /** The record of every session that has ended. */
  readonly ended: SessionRecord[];
  /** Resolves when that many sessions have ended. */
  endedCount(count: number): Promise<void>;
  close(): Promise<void>;
}

/** A real HTTP server with all entries under `/ssh/`, and a pipeline whose parts a test can replace. */
export async function startParts(
  replace: Partial<PipelineSettings> & {
    observers?: readonly SessionObserver[];
    draining?: () => boolean;
    revocations?: Pick<Revocations, 'isRevoked'>;
    relays?: Partial<ResumableTunnelsOptions>;
    tunnels?: (own: TunnelLocator) => TunnelLocator;
  } = {},
): Promise<Parts> {
  const ended: SessionRecord[] = [];
  let changed: (() => void) | undefined;
  const watch: SessionObserver = {
    ended(record) {
      ended.push(record);
      changed?.();
    },
  };
  const sessions = new Sessions([...(replace.observers ?? []), watch]);
  const pipeline: PipelineSettings = {
    authenticator: oneToken,
    policy: { decide: (_principal, target) => ({ target, address: target, rule: 'rule 1' }) },
    dialer: loopbackDialer,
    evaluateAddress: () => ({ allowed: true, why: 'it is a test' }),
    limits: generousLimits,
    ...replace,
  };
  const relays = new ResumableTunnels({
    sessions,
    instance: 'test',
    keepMs: 60_000,
    windowBytes: 256 * 1024,
    totalBytes: 64 * 1024 * 1024,
    ...replace.relays,
  });
  const context = {
    sessions,
    tunnels: (replace.tunnels ?? ((own) => own))(localLocator(relays)),
    limiter: openLimiter({ counter: undefined, sessions, peers: undefined }),
    draining: replace.draining ?? (() => false),
    pacer: new WorkPacer(),
    // Thousands of refusals: their time is a test of its own, in test/hostile/timing.test.ts.
    minimumDelayMs: 0,
    revocations: replace.revocations ?? { isRevoked: () => false },
  };
  const common = {
    origins: () => ['https://listed.example'],
    remoteAddress: remoteAddressBehind([]),
    onOffer: (offer: Offer | ResumeOffer) =>
      void (offer.kind === 'resume'
        ? resumeTunnel(offer, context, pipeline)
        : openTunnel(offer, context, pipeline)),
    onMalformed(incoming: Omit<Incoming, 'socket'>, requested: string, error: TunnelError) {
      sessions.begin({ ...incoming, entry: 'none', requested }).end(error.code);
    },
  };
  const [plain] = plainEntries('/ssh/', ['http'], { tunnels: () => relays });
  const server = createServer((request, response) => {
    const path = request.url!.split('?')[0];
    const route = plain!.routes.find((one) => `/ssh/${one.path}` === path && one.method === request.method);
    if (route === undefined) response.end('an ordinary answer\n');
    else handlePlainRequest(plain!, { request, response, mayHaveBody: route.mayHaveBody ?? false }, common);
  });
  handleTunnelRequests(server, {
    ...common,
    entries: requestEntries('/ssh/', ['relay', 'websocket', 'connect-tcp', 'connect'], () => relays),
    prefix: '/ssh/',
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    server,
    port: portOf(server),
    sessions,
    relays,
    ended,
    async endedCount(count) {
      while (ended.length < count) await new Promise<void>((resolve) => (changed = resolve));
    },
    async close() {
      server.closeAllConnections();
      server.close();
      sessions.endAll('GATEWAY_STOPPED');
      await sessions.empty();
    },
  };
}

/** A TCP server on a free port of loopback; `onSocket` owns each socket. */
export async function startTarget(
  onSocket: (socket: Socket) => void,
): Promise<{ port: number; close(): void }> {
  const sockets = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    onSocket(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: portOf(server),
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A target that echoes, and ends when its peer ends. */
export function startEcho(): Promise<{ port: number; close(): void }> {
  return startTarget((socket) => socket.pipe(socket));
}

/** A raw connection to a port of loopback. */
export async function dial(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
}

/** Sends a request as it is, and resolves to everything received until the connection ends. */
export async function exchange(port: number, request: string | Buffer): Promise<string> {
  const socket = await dial(port);
  socket.write(request);
  const answer = (await buffer(socket)).toString('latin1');
  socket.destroy();
  return answer;
}

/** Reads a head up to and including its blank line; the bytes that follow stay in the socket. */
export async function readHead(socket: Socket): Promise<string> {
  let head = '';
  while (!head.endsWith('\r\n\r\n')) {
    const byte = socket.read(1) as Buffer | null;
    if (byte) head += byte.toString('latin1');
    else if (socket.readableEnded || socket.destroyed)
      throw new Error(`no whole head, only ${JSON.stringify(head)}`);
    else await Promise.race([once(socket, 'readable'), once(socket, 'end')]);
  }
  return head;
}

export function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);
}

/** The `code` of the problem document in a raw answer. */
export function codeOf(answer: string): string {
  return (JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)) as { code: string }).code;
}

function portOf(server: Server | TcpServer): number {
  return (server.address() as AddressInfo).port;
}
