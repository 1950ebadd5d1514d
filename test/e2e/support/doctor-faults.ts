import type { JsonStatus } from '../../../diagnostics/render.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { unsignedToken } from '../../client/support.ts';
import {
  changedFront,
  gatewayAt,
  throughProxy,
  tlsServer,
  type DoctorSetup,
  type Staged,
} from './doctor-stages.ts';
import { startGateway } from './gateway.ts';
import { freePort } from './process.ts';
import { startSquid } from './proxies.ts';
import type { Scratch } from './scratch.ts';
import { box } from './ssh.ts';
import { listen } from './world.ts';

/** Something that is broken, and where doctor has to say it is. */
export interface Fault {
  readonly what: string;
  /** Brings it about, for this test. */
  stage(setup: DoctorSetup, scratch: Scratch): Promise<Staged> | Staged;
  /** The check that names it. Absent verdict: it keeps ssh from working, and nothing before it does. */
  readonly check: string;
  readonly verdict?: JsonStatus;
  readonly code?: TunnelErrorCode;
  /** What the words have to mention. */
  readonly says?: RegExp;
}

export const faults: readonly Fault[] = [
  {
    what: 'a proxy setting that is not valid',
    stage: () => ({ env: { HTTPS_PROXY: 'ftp://proxy.example' } }),
    check: 'way',
    code: 'CONFIG_INVALID',
  },
  {
    what: 'a proxy that refuses connections',
    stage: async (setup) => throughProxy(setup, `http://127.0.0.1:${await freePort()}`),
    check: 'connection',
    code: 'PROXY_UNREACHABLE',
    says: /no program listens/,
  },
  {
    what: 'a proxy that wants a password, and gets none (407)',
    stage: (setup) => throughProxy(setup, setup.proxy.urlWithoutPassword),
    check: 'proxy',
    code: 'PROXY_SIGN_IN',
    says: /requires a sign-in before/,
  },
  {
    what: 'a proxy that rejects the password (407)',
    stage: (setup) => throughProxy(setup, setup.proxy.url.replace(/:[^:]*@/, ':wrong@')),
    check: 'proxy',
    code: 'PROXY_SIGN_IN',
    says: /password/,
  },
  {
    what: 'a proxy that forbids CONNECT (403)',
    stage: (setup) => throughProxy(setup, setup.proxy.url, 1),
    check: 'proxy',
    code: 'PROXY_REFUSED',
    says: /forbids/,
  },
  {
    what: 'a proxy that does not know the gateway (503)',
    stage: (setup) => {
      const { env } = throughProxy(setup, setup.proxy.url);
      const port = new URL(setup.world.url).port;
      return { env: { ...env, ...gatewayAt('nowhere.invalid', Number(port)) } };
    },
    check: 'proxy',
    code: 'PROXY_REFUSED',
    says: /cannot reach the gateway/,
  },
  {
    what: 'a gateway port on which no process listens',
    stage: async () => ({ env: gatewayAt('localhost', await freePort()) }),
    check: 'connection',
    code: 'GATEWAY_UNREACHABLE',
    says: /no program listens/,
  },
  {
    what: 'a certificate of an unknown issuer',
    stage: (setup, own) => tlsServer(setup, own, { issuer: 'Some Company', name: 'localhost', days: 2 }),
    check: 'tls',
    code: 'TLS_FAILED',
    says: /Some Company.*interception/s,
  },
  {
    what: 'a proxy that opens TLS, by the name in its certificate',
    stage: (setup, own) => tlsServer(setup, own, { issuer: 'Zscaler Inc.', name: 'localhost', days: 2 }),
    check: 'tls',
    code: 'TLS_FAILED',
    says: /a proxy of this network \("Zscaler Inc\."\) decrypts and inspects/,
  },
  {
    what: 'a certificate that has expired',
    stage: (setup, own) => tlsServer(setup, own, { issuer: 'ours', name: 'localhost', days: -1 }),
    check: 'tls',
    code: 'TLS_FAILED',
    says: /clock/,
  },
  {
    what: 'a certificate for another name',
    stage: (setup, own) => tlsServer(setup, own, { issuer: 'ours', name: 'other.example', days: 2 }),
    check: 'tls',
    code: 'TLS_FAILED',
    says: /another web server/,
  },
  {
    what: 'a port that does not speak TLS',
    stage: (setup) => ({ env: gatewayAt('localhost', setup.world.gateway.port) }),
    check: 'tls',
    code: 'TLS_FAILED',
    says: /not a web server with https/,
  },
  {
    what: 'a server that accepts the connection and sends nothing',
    stage: async (_setup, own) => ({
      env: gatewayAt('localhost', await listen(own, (socket) => socket.resume())),
    }),
    check: 'tls',
    code: 'GATEWAY_TIMEOUT',
  },
  {
    what: 'a web server before an upstream that sends nothing',
    stage: async (setup, own) =>
      changedFront(setup, own, 'nginx', undefined, await listen(own, (socket) => socket.resume())),
    check: 'http',
    code: 'GATEWAY_TIMEOUT',
    says: /sends nothing/,
  },
  {
    what: 'a path that the web server does not forward (404)',
    stage: (setup) => ({ env: gatewayAt('localhost', Number(new URL(setup.world.url).port), '/shh/') }),
    check: 'http',
    code: 'HTTP_UNEXPECTED',
    says: /path is wrong/,
  },
  {
    what: 'a path below that of the gateway (404 of its own)',
    stage: (setup) => ({ env: gatewayAt('localhost', Number(new URL(setup.world.url).port), '/ssh/ssh/') }),
    check: 'http',
    code: 'HTTP_UNEXPECTED',
    says: /publicUrl/,
  },
  {
    what: 'a web server before a gateway that is not running (502)',
    stage: async (setup, own) => changedFront(setup, own, 'nginx', undefined, await freePort()),
    check: 'http',
    code: 'HTTP_UNEXPECTED',
    says: /not running/,
  },
  {
    what: 'a captive portal with its own page',
    stage: (setup, own) =>
      changedFront(setup, own, 'haproxy', [
        /http-request return status 404 .*/,
        'http-request return status 200 content-type text/html string "<html>sign-in</html>"',
      ]),
    check: 'gateway',
    code: 'HTTP_UNEXPECTED',
    says: /captive portal/,
  },
  {
    what: 'a captive portal that redirects',
    stage: (setup, own) =>
      changedFront(setup, own, 'haproxy', [
        /http-request return status 404 .*/,
        'http-request redirect location https://portal.example/?from=here',
      ]),
    check: 'gateway',
    code: 'HTTP_UNEXPECTED',
    says: /redirect to portal\.example,.*captive portal/s,
  },
  {
    what: 'a user without a sign-in',
    stage: () => ({ env: { POSTERN_TOKEN_FILE: undefined } }),
    check: 'sign-in',
    code: 'TOKEN_MISSING',
    says: /postern login/,
  },
  {
    what: 'a token that has expired',
    stage: () => ({ env: { POSTERN_TOKEN_FILE: undefined, POSTERN_TOKEN: unsignedToken({ exp: 1 }) } }),
    check: 'sign-in',
    code: 'TOKEN_INVALID',
    says: /expired/,
  },
  {
    what: 'a token of another gateway',
    stage: async (_setup, own) => {
      const other = await startGateway(own, { targets: { box: '127.0.0.1:1' } });
      return { env: { POSTERN_TOKEN_FILE: other.tokenFile } };
    },
    check: 'sign-in',
    code: 'TOKEN_INVALID',
    says: /meant for another gateway/,
  },
  {
    what: 'nginx without the Upgrade header',
    stage: (setup, own) =>
      changedFront(setup, own, 'nginx', [/^ *proxy_set_header (?:Upgrade|Connection) .*$/gm, '']),
    check: 'entry-relay',
    code: 'UPGRADE_REQUIRED',
    says: /does not forward it/,
  },
  {
    what: 'nginx that forwards WebSockets only',
    stage: (setup, own) => changedFront(setup, own, 'nginx', [/^ *connect-tcp.*$/gm, '']),
    check: 'entry-connect-tcp',
    verdict: 'costly',
  },
  {
    what: 'HAProxy that forwards everything but WebSockets',
    stage: (setup, own) => changedFront(setup, own, 'haproxy', [/-i websocket/, '-i']),
    check: 'entry-relay',
    verdict: 'costly',
    says: /do not survive/,
  },
  {
    what: 'a host that the rules do not allow',
    stage: () => ({ args: ['secret.example'] }),
    check: 'policy',
    code: 'TARGET_DENIED',
    says: /no rule allows you to reach secret\.example:22; you can reach box/,
  },
  {
    what: 'a host on which no SSH server runs',
    stage: async (setup, own) => {
      const { certificates } = setup.world;
      const targets = { [box]: `127.0.0.1:${await freePort()}` };
      const gateway = await startGateway(own, { targets, tls: certificates });
      return { env: { ...gatewayAt('localhost', gateway.port), POSTERN_TOKEN_FILE: gateway.tokenFile } };
    },
    check: 'target',
    code: 'DIAL_REFUSED',
    says: /no SSH server listens/,
  },
  {
    what: 'a host on which something else answers',
    stage: () => ({ args: ['first'] }),
    check: 'ssh',
    code: 'TARGET_NOT_SSH',
    says: /another program/,
  },
  {
    what: 'a host that accepts the connection and sends nothing',
    stage: () => ({ args: ['last'] }),
    check: 'ssh',
    code: 'TARGET_NOT_SSH',
    says: /stuck/,
  },
  {
    what: 'nginx that cuts idle connections after 2 s',
    stage: async (setup, own) => ({
      ...(await changedFront(setup, own, 'nginx', [/proxy_read_timeout .*;/g, 'proxy_read_timeout 2s;'])),
      args: [box, '--idle'],
    }),
    check: 'idle',
    verdict: 'costly',
    says: /cut after (?:1\.9|2\.\d) s.*proxy_read_timeout/s,
  },
  {
    what: 'nginx that accepts lines of 8 KiB at most',
    stage: (setup, own) => changedFront(setup, own, 'nginx', [/large_client_header_buffers .*;/, '']),
    check: 'headers',
    verdict: 'costly',
    says: /4 KiB.*large_client_header_buffers/s,
  },
  {
    what: 'a clock that is an hour behind',
    stage: (setup, own) => {
      const date = new Date(Date.now() + 3_600_000).toUTCString();
      return changedFront(setup, own, 'haproxy', [
        /^( *retries 0)$/m,
        `$1\n    http-response set-header Date "${date}"`,
      ]);
    },
    check: 'clock',
    verdict: 'costly',
    says: /60 minutes behind/,
  },
  {
    what: 'a proxy that ends both directions when one ends',
    stage: async (setup, own) => {
      const { certificates, sshd } = setup.world;
      const gateway = await startGateway(own, {
        targets: { [box]: `127.0.0.1:${sshd.port}` },
        tls: certificates,
        settings: { entries: ['connect'] },
      });
      const squid = await startSquid(own, gateway.port);
      const { env } = throughProxy(setup, squid.url, gateway.port);
      return { env: { ...env, POSTERN_TOKEN_FILE: gateway.tokenFile } };
    },
    check: 'half-close',
    verdict: 'costly',
    says: /both directions/,
  },
];
