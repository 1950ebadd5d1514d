import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import type { JsonStatus } from '../../../diagnostics/render.ts';
import { tunnelErrors } from '../../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../../protocol/errors.ts';
import { unsignedToken } from '../../client/support.ts';
import { runDoctor } from '../support/doctor.ts';
import { startGateway } from '../support/gateway.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { freePort, output, start } from '../support/process.ts';
import type { Environment } from '../support/process.ts';
import { startFront, startSquid } from '../support/proxies.ts';
import type { CorporateProxy, FrontName, FrontPlan } from '../support/proxies.ts';
import { Scratch, openScratch, scratchOf } from '../support/scratch.ts';
import { box, clientCommand } from '../support/ssh.ts';
import { listen, openWorld } from '../support/world.ts';
import type { World } from '../support/world.ts';

/** Something that is broken, and where doctor has to say it is. */
interface Fault {
  readonly what: string;
  /** Brings it about, for this test. */
  stage(scratch: Scratch): Promise<Staged> | Staged;
  /** The check that names it. Absent verdict: it keeps ssh from working, and nothing before it does. */
  readonly check: string;
  readonly verdict?: JsonStatus;
  readonly code?: TunnelErrorCode;
  /** What the words have to mention. */
  readonly says?: RegExp;
}

/** What doctor is told besides the usual. */
interface Staged {
  readonly env?: Environment;
  readonly args?: readonly string[];
}

function gatewayAt(host: string, port: number, path = '/ssh/'): Environment {
  return { POSTERN_GATEWAY: `https://${host}:${port}${path}` };
}

/** For a server called `name`. */
interface Certificate {
  /** `ours`, or the name of another authority that nobody has been told of. */
  readonly issuer: string;
  readonly name: string;
  readonly days: number;
}

function pair(path: string): string {
  return `-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${path}`;
}

/** Arguments are split at spaces, but for those that begin with a slash. */
function openssl(...args: string[]): Promise<Buffer> {
  return output(['openssl', ...args.flatMap((each) => (each.startsWith('/') ? [each] : each.split(' ')))]);
}

describe('postern doctor', needs('nginx', 'haproxy', 'squid', 'openssl', 'sshd', 'ssh', clientBundle), () => {
  const scratch = openScratch();
  let world: World;
  let proxy: CorporateProxy;
  before(async () => {
    world = await openWorld(scratch, 'nginx', {
      settings: { entries: ['relay', 'websocket', 'connect-tcp', 'connect'] },
    });
    proxy = await startSquid(scratch, Number(new URL(world.url).port));
  });

  /** The shipped file of a front with one change, before the same gateway. */
  async function changedFront(
    own: Scratch,
    name: FrontName,
    replacing: FrontPlan['replacing'],
    upstreamPort = world.gateway.port,
  ): Promise<Staged> {
    const port = await freePort();
    const { certificates } = world;
    await startFront(own, name, { certificates, port, upstreamPort, ...(replacing && { replacing }) });
    return { env: gatewayAt('localhost', port) };
  }

  const throughProxy = (url: string, port = Number(new URL(world.url).port)): Staged => ({
    env: { ...gatewayAt('gw.example', port), HTTPS_PROXY: url },
  });

  /** openssl as a TLS server that shows a certificate of our authority, or of another. */
  async function tlsServer(own: Scratch, certificate: Certificate, ...more: string[]): Promise<Staged> {
    const [file, key] = await makeCertificate(own, certificate);
    const port = await freePort();
    const argv = [
      'openssl',
      's_server',
      '-quiet',
      '-accept',
      `127.0.0.1:${port}`,
      '-cert',
      file,
      '-key',
      key,
    ];
    await start(own, [...argv, ...more], { port });
    return { env: gatewayAt('localhost', port) };
  }

  async function makeCertificate(
    own: Scratch,
    { issuer, name, days }: Certificate,
  ): Promise<[string, string]> {
    let [authority, authorityKey] = [world.certificates.authorityFile, scratch.path('authority.key')];
    if (issuer !== 'ours') {
      [authority, authorityKey] = [own.path('other.pem'), own.path('other.key')];
      await openssl('req -x509 -days 2', pair(authorityKey), '-out', authority, '-subj', `/O=${issuer}`);
    }
    const [key, request, file, names] = ['tls.key', 'tls.csr', 'tls.pem', 'tls.names'].map((each) =>
      own.path(each),
    ) as [string, string, string, string];
    writeFileSync(names, `subjectAltName=DNS:${name}\n`);
    await openssl('req -new', pair(key), '-out', request, '-subj', `/CN=${name}`);
    const signed = `x509 -req -days ${days} -CAcreateserial -extfile ${names} -in ${request} -out ${file}`;
    await openssl(signed, '-CA', authority, '-CAkey', authorityKey);
    return [file, key];
  }

  const faults: readonly Fault[] = [
    {
      what: 'a proxy setting that is none',
      stage: () => ({ env: { HTTPS_PROXY: 'ftp://proxy.example' } }),
      check: 'way',
      code: 'CONFIG_INVALID',
    },
    {
      what: 'a proxy that refuses connections',
      stage: async () => throughProxy(`http://127.0.0.1:${await freePort()}`),
      check: 'connection',
      code: 'PROXY_UNREACHABLE',
      says: /no program listens/,
    },
    {
      what: 'a proxy that wants a password, and gets none (407)',
      stage: () => throughProxy(proxy.urlWithoutPassword),
      check: 'proxy',
      code: 'PROXY_SIGN_IN',
      says: /requires a sign-in before/,
    },
    {
      what: 'a proxy that does not take the password (407)',
      stage: () => throughProxy(proxy.url.replace(/:[^:]*@/, ':wrong@')),
      check: 'proxy',
      code: 'PROXY_SIGN_IN',
      says: /password/,
    },
    {
      what: 'a proxy that forbids CONNECT (403)',
      stage: () => throughProxy(proxy.url, 1),
      check: 'proxy',
      code: 'PROXY_REFUSED',
      says: /forbids/,
    },
    {
      what: 'a proxy that does not know the gateway (503)',
      stage: () => {
        const { env } = throughProxy(proxy.url);
        const port = new URL(world.url).port;
        return { env: { ...env, ...gatewayAt('nowhere.invalid', Number(port)) } };
      },
      check: 'proxy',
      code: 'PROXY_REFUSED',
      says: /cannot reach the gateway/,
    },
    {
      what: 'a gateway port that nobody listens on',
      stage: async () => ({ env: gatewayAt('localhost', await freePort()) }),
      check: 'connection',
      code: 'GATEWAY_UNREACHABLE',
      says: /no program listens/,
    },
    {
      what: 'a certificate of an unknown issuer',
      stage: (own) => tlsServer(own, { issuer: 'Some Company', name: 'localhost', days: 2 }),
      check: 'tls',
      code: 'TLS_FAILED',
      says: /Some Company.*interception/s,
    },
    {
      what: 'a proxy that opens TLS, by the name in its certificate',
      stage: (own) => tlsServer(own, { issuer: 'Zscaler Inc.', name: 'localhost', days: 2 }),
      check: 'tls',
      code: 'TLS_FAILED',
      says: /a proxy of this network \("Zscaler Inc\."\) decrypts and inspects/,
    },
    {
      what: 'a certificate that has expired',
      stage: (own) => tlsServer(own, { issuer: 'ours', name: 'localhost', days: -1 }),
      check: 'tls',
      code: 'TLS_FAILED',
      says: /clock/,
    },
    {
      what: 'a certificate for another name',
      stage: (own) => tlsServer(own, { issuer: 'ours', name: 'other.example', days: 2 }),
      check: 'tls',
      code: 'TLS_FAILED',
      says: /another web server/,
    },
    {
      what: 'a port that does not speak TLS',
      stage: () => ({ env: gatewayAt('localhost', world.gateway.port) }),
      check: 'tls',
      code: 'TLS_FAILED',
      says: /not a web server with https/,
    },
    {
      what: 'somebody who takes the connection and says nothing',
      stage: async (own) => ({ env: gatewayAt('localhost', await listen(own, (socket) => socket.resume())) }),
      check: 'tls',
      code: 'GATEWAY_TIMEOUT',
    },
    {
      what: 'a web server before something that says nothing',
      stage: async (own) =>
        changedFront(own, 'nginx', undefined, await listen(own, (socket) => socket.resume())),
      check: 'http',
      code: 'GATEWAY_TIMEOUT',
      says: /says nothing/,
    },
    {
      what: 'a path that the web server does not forward (404)',
      stage: () => ({ env: gatewayAt('localhost', Number(new URL(world.url).port), '/shh/') }),
      check: 'http',
      code: 'HTTP_UNEXPECTED',
      says: /path is wrong/,
    },
    {
      what: 'a path below that of the gateway (404 of its own)',
      stage: () => ({ env: gatewayAt('localhost', Number(new URL(world.url).port), '/ssh/ssh/') }),
      check: 'http',
      code: 'HTTP_UNEXPECTED',
      says: /publicUrl/,
    },
    {
      what: 'a web server before a gateway that is not running (502)',
      stage: async (own) => changedFront(own, 'nginx', undefined, await freePort()),
      check: 'http',
      code: 'HTTP_UNEXPECTED',
      says: /not running/,
    },
    {
      what: 'a captive portal with its own page',
      stage: (own) =>
        changedFront(own, 'haproxy', [
          /http-request return status 404 .*/,
          'http-request return status 200 content-type text/html string "<html>sign-in</html>"',
        ]),
      check: 'gateway',
      code: 'HTTP_UNEXPECTED',
      says: /captive portal/,
    },
    {
      what: 'a captive portal that redirects',
      stage: (own) =>
        changedFront(own, 'haproxy', [
          /http-request return status 404 .*/,
          'http-request redirect location https://portal.example/?from=here',
        ]),
      check: 'gateway',
      code: 'HTTP_UNEXPECTED',
      says: /redirection to portal\.example,.*captive portal/s,
    },
    {
      what: 'nobody who has signed in',
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
      stage: async (own) => {
        const other = await startGateway(own, { targets: { box: '127.0.0.1:1' } });
        return { env: { POSTERN_TOKEN_FILE: other.tokenFile } };
      },
      check: 'sign-in',
      code: 'TOKEN_INVALID',
      says: /meant for another gateway/,
    },
    {
      what: 'nginx without the Upgrade header',
      stage: (own) => changedFront(own, 'nginx', [/^ *proxy_set_header (?:Upgrade|Connection) .*$/gm, '']),
      check: 'entry-relay',
      code: 'UPGRADE_REQUIRED',
      says: /does not forward it/,
    },
    {
      what: 'nginx that forwards WebSockets only',
      stage: (own) => changedFront(own, 'nginx', [/^ *connect-tcp.*$/gm, '']),
      check: 'entry-connect-tcp',
      verdict: 'costly',
    },
    {
      what: 'HAProxy that forwards everything but WebSockets',
      stage: (own) => changedFront(own, 'haproxy', [/-i websocket/, '-i']),
      check: 'entry-relay',
      verdict: 'costly',
      says: /do not survive/,
    },
    {
      what: 'a host that the rules do not allow',
      stage: () => ({ args: ['secret.example'] }),
      check: 'policy',
      code: 'TARGET_DENIED',
      says: /no rule allows you secret\.example:22; you can reach box/,
    },
    {
      what: 'a host on which no SSH server runs',
      stage: async (own) => {
        const { certificates } = world;
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
      what: 'a host that takes the connection and says nothing',
      stage: () => ({ args: ['last'] }),
      check: 'ssh',
      code: 'TARGET_NOT_SSH',
      says: /stuck/,
    },
    {
      what: 'nginx that cuts idle connections after 2 s',
      stage: async (own) => ({
        ...(await changedFront(own, 'nginx', [/proxy_read_timeout .*;/g, 'proxy_read_timeout 2s;'])),
        args: [box, '--idle'],
      }),
      check: 'idle',
      verdict: 'costly',
      says: /cut after (?:1\.9|2\.\d) s.*proxy_read_timeout/s,
    },
    {
      what: 'nginx that takes lines of 8 KiB only',
      stage: (own) => changedFront(own, 'nginx', [/large_client_header_buffers .*;/, '']),
      check: 'headers',
      verdict: 'costly',
      says: /4 KiB.*large_client_header_buffers/s,
    },
    {
      what: 'a clock that is an hour behind',
      stage: (own) => {
        const date = new Date(Date.now() + 3_600_000).toUTCString();
        return changedFront(own, 'haproxy', [
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
      stage: async (own) => {
        const { certificates, sshd } = world;
        const gateway = await startGateway(own, {
          targets: { [box]: `127.0.0.1:${sshd.port}` },
          tls: certificates,
          settings: { entries: ['connect'] },
        });
        const squid = await startSquid(own, gateway.port);
        const { env } = throughProxy(squid.url, gateway.port);
        return { env: { ...env, POSTERN_TOKEN_FILE: gateway.tokenFile } };
      },
      check: 'half-close',
      verdict: 'costly',
      says: /both directions/,
    },
  ];

  for (const fault of faults) {
    const { what, check, verdict = 'failed', code, says } = fault;
    it(`names ${check} for ${what}`, async (t) => {
      const { env = {}, args = [box] } = await fault.stage(scratchOf(t));
      const examined = await runDoctor(world, args, env);
      const finding = examined.finding(check);
      const story = JSON.stringify(examined.findings, undefined, 1);
      assert.equal(finding.verdict, verdict, story);
      assert.equal(finding.code, code, story);
      const words = [finding.what, finding.meaning, finding.advice, ...(finding.lines ?? [])].join('\n');
      if (says !== undefined) assert.match(words, says);
      if (verdict === 'failed') {
        assert.equal(examined.first, finding, story);
        assert.ok(finding.meaning !== undefined, `${check} does not say what it means`);
        assert.ok(finding.advice !== undefined, `${check} does not say what to do`);
      } else assert.equal(examined.first, undefined, story);
      const exit = code === undefined ? 0 : tunnelErrors[code].exit;
      assert.deepEqual([examined.works, examined.exit, examined.outcome.code], [exit === 0, exit, exit]);
    });
  }

  it('has enough faults to be trusted', () => assert.ok(faults.length >= 20));

  it('finds nothing in the way where ssh works, and ssh does', async () => {
    const examined = await runDoctor(world, [box]);
    const offered = examined.findings.filter(({ what }) => !what.endsWith('does not offer it'));
    assert.deepEqual(
      offered.map(({ check, verdict }) => `${check} ${verdict}`),
      [
        'way good',
        'name good',
        'connection good',
        'tls good',
        'http good',
        'gateway good',
        'sign-in good',
        'entry-relay good',
        'entry-websocket good',
        'entry-connect-tcp good',
        'entry-connect unchecked',
        'policy good',
        'target good',
        'ssh good',
        'clock good',
        'half-close good',
        'headers good',
        'latency good',
        'throughput good',
        'idle unchecked',
      ],
    );
    assert.deepEqual([examined.works, examined.outcome.code], [true, 0]);
    assert.equal((await world.ssh().run([box, 'true'])).code, 0);
  });

  it('goes as far as the gateway without a host', async () => {
    const examined = await runDoctor(world, []);
    assert.deepEqual([examined.works, examined.outcome.code, examined.host], [true, 0, undefined]);
    assert.match(examined.finding('policy').what, /you can reach box/);
    assert.equal(examined.finding('target').verdict, 'unchecked');
  });

  it('tries the ways in without a sign-in', async () => {
    const examined = await runDoctor(world, [box], { POSTERN_TOKEN_FILE: undefined });
    for (const entry of ['relay', 'websocket', 'connect-tcp'])
      assert.equal(examined.finding(`entry-${entry}`).verdict, 'good');
  });

  it('prints what is there when it is interrupted', async (t) => {
    const own = scratchOf(t);
    const port = await listen(own, (socket) => {
      socket.resume();
      // The handshake has begun: doctor waits for an answer that never comes.
      socket.once('data', () => doctor.signal('SIGINT'));
    });
    const { env } = world.ssh();
    const doctor = await start(own, clientCommand('doctor', box), {
      port,
      env: { ...env, ...gatewayAt('localhost', port) },
    });
    assert.equal(await doctor.ended, 130);
    const text = doctor.log();
    assert.match(text, /^✓ connection /m);
    assert.match(text, /^– HTTP +not checked: you stopped it$/m);
    assert.match(text, /^No problem was found that stops ssh to box:22/m);
  });

  it('speaks plainly to terminals without UTF-8, and without colours to what is no terminal', async () => {
    const command = clientCommand('doctor', box);
    const { stdout } = await world.ssh().command(command, { env: { LC_ALL: 'C' } });
    assert.match(stdout.toString('latin1'), /^[\x20-\x7e\n]+$/);
    assert.match(stdout.toString(), /^ok {3}TLS /m);
    const { stdout: rich } = await world.ssh().command(command);
    assert.match(rich.toString(), /^✓ TLS /m);
    assert.ok(!rich.includes(0x1b));
  });

  it('writes a report that holds no secret and no name of the user', async (t) => {
    const own = scratchOf(t);
    const file = own.path('report.txt');
    const { url } = await startSquid(own, Number(new URL(world.url).port));
    const { env } = throughProxy(url);
    const { outcome } = await runDoctor(world, [box, '--report', file], env);
    assert.equal(outcome.code, 0, outcome.stdout.toString());
    const text = readFileSync(file, 'utf8');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    for (const part of ['In it:', 'Not in it:', 'gw.example', 'box:22', 'through the proxy http://127.0.0.1'])
      assert.ok(text.includes(part), part);
    const token = readFileSync(world.gateway.tokenFile, 'utf8').trim();
    const home = world.ssh().env['HOME']!;
    for (const secret of [token, token.slice(0, 20), 'correct', 'alice', 'tester', home])
      assert.ok(!text.includes(secret), secret);
    assert.ok(!outcome.stdout.includes('correct'));
  });

  it('needs a gateway, like everybody', async () => {
    const command = clientCommand('doctor', box);
    const { code, stderr } = await world.ssh().command(command, { env: { POSTERN_GATEWAY: undefined } });
    assert.equal(code, 78);
    assert.match(stderr.toString(), /GATEWAY_UNSET/);
  });
});
