import { createServer, type Server, type Socket } from 'node:net';
import { makeCertificates, type Certificates } from './certificates.ts';
import { startGateway, type Gateway } from './gateway.ts';
import { freePort, type Environment } from './process.ts';
import {
  openFront,
  startSquid,
  type CorporateProxy,
  type Front,
  type FrontName,
  type FrontPlan,
} from './proxies.ts';
import { startInspectingSquid } from './inspecting-squid.ts';
import type { Scratch } from './scratch.ts';
import { box, clientCommand, prepareSsh, type Ssh } from './ssh.ts';
import { startSshd, type Sshd } from './sshd.ts';

/**
 * How the client gets to the gateway: straight, through a web proxy, through squid and then nginx, or through a squid
 * that opens TLS, and lets no upgrade pass.
 */
export type Path = 'direct' | FrontName | 'squid' | 'inspecting squid';

export type Via = 'relay' | 'websocket' | 'connect-tcp' | 'connect' | 'http';

/** Everything between an ssh and an sshd, running. */
export interface World {
  readonly scratch: Scratch;
  readonly sshd: Sshd;
  readonly gateway: Gateway;
  readonly certificates: Certificates;
  /** Where the client finds the gateway. */
  readonly url: string;
  readonly front?: Front;
  readonly corporateProxy?: CorporateProxy;
  /** The network namespace of ssh; absent: that of the tests. */
  readonly clientNamespace?: string | undefined;
  /** The environment of the client. */
  readonly env: Environment;
  /** ssh with the client as its ProxyCommand; without an entry the client chooses. */
  ssh(via?: Via): Ssh;
}

/** How much the targets `first` and `last` send. */
export const talkBytes = 5 * 1024 * 1024;

/** The time allowed for a sign-in; sessions must not end with it. */
export const signInSeconds = 10;

/** What is not as usual in a world. */
export interface WorldOptions {
  /** More settings of the gateway, in the words of postern.yaml. */
  readonly settings?: object;
  readonly front?: Pick<FrontPlan, 'address' | 'replacing'>;
  /** The network namespace of ssh; that of the servers is the one of `scratch`. */
  readonly clientNamespace?: string;
  /** The name under which the client finds the gateway. */
  readonly host?: string;
}

/**
 * Starts sshd, gateway and the web server or proxy before it. Besides `box` there are two targets that speak no SSH:
 * `first` sends `talkBytes` and ends, `last` does so after it has read the caller's end of input.
 */
export async function openWorld(scratch: Scratch, path: Path, options: WorldOptions = {}): Promise<World> {
  const [certificates, sshd] = await Promise.all([makeCertificates(scratch), startSshd(scratch)]);
  const [first, last] = [await listen(scratch, talk), await listen(scratch, talkLast)];
  const isEdge = path === 'direct' || path === 'inspecting squid';
  const publicPort = isEdge ? undefined : await freePort();
  const gateway = await startGateway(scratch, {
    targets: { [box]: `127.0.0.1:${sshd.port}`, first: `127.0.0.1:${first}`, last: `127.0.0.1:${last}` },
    ...(publicPort === undefined ? { tls: certificates } : { publicPort }),
    ...(options.host !== undefined && { publicHost: options.host }),
    settings: { limits: { preAuthSeconds: signInSeconds }, ...options.settings },
  });
  const port = publicPort ?? gateway.port;
  const plan = { ...options.front, certificates, port, upstreamPort: gateway.port };
  const front = isEdge ? undefined : await openFront(scratch, path === 'squid' ? 'nginx' : path, plan);
  const inspecting =
    path === 'inspecting squid' ? await startInspectingSquid(scratch, certificates) : undefined;
  const corporateProxy = inspecting ?? (path === 'squid' ? await startSquid(scratch, port) : undefined);
  const host = options.host ?? (corporateProxy ? 'gw.example' : 'localhost');
  const url = `https://${host}:${port}/ssh/`;
  const env = {
    POSTERN_GATEWAY: url,
    POSTERN_TOKEN_FILE: gateway.tokenFile,
    POSTERN_CA_FILE: inspecting?.authorityFile ?? certificates.authorityFile,
    ...(corporateProxy && { HTTPS_PROXY: corporateProxy.url }),
  };
  return {
    scratch,
    sshd,
    gateway,
    certificates,
    url,
    env,
    ...(front && { front }),
    clientNamespace: options.clientNamespace,
    ...(corporateProxy && { corporateProxy }),
    ssh: (via) =>
      prepareSsh(scratch, {
        sshd,
        env,
        name: via ?? 'auto',
        namespace: options.clientNamespace,
        proxyCommand: clientCommand('connect', ...(via ? ['--via', via] : []), '%h', '%p').join(' '),
      }),
  };
}

function talk(socket: Socket): void {
  socket.resume();
  socket.end(Buffer.alloc(talkBytes, 'first'));
}

function talkLast(socket: Socket): void {
  socket.resume();
  socket.on('end', () => socket.end(Buffer.alloc(talkBytes, 'last')));
}

/** Listens on a loopback port until the end of the test file. */
export async function listen(scratch: Scratch, onSocket: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    onSocket(socket);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', () => resolve()));
  scratch.onEnd(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return port;
}
