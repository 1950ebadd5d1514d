import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import { auditOf } from '../../e2e/support/generations.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { eventually, freePort, own, run, start } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { codeOf, exchange, startEcho, statusOf } from '../support/gateway-parts.ts';
import { outcome, rawUpgrade } from '../support/peers.ts';

const scratch = openScratch();

function connectHead(gateway: Gateway, target = 'echo:22'): string {
  const token = readFileSync(gateway.tokenFile, 'utf8').trim();
  return `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`;
}

function open(gateway: Gateway, target?: string): Promise<Socket> {
  return rawUpgrade(gateway.port, connectHead(gateway, target));
}

async function assertEchoes(tunnel: Socket): Promise<void> {
  tunnel.write('still here?');
  assert.equal(String((await once(tunnel, 'data'))[0]), 'still here?');
}

/** Fetches over a unix socket. */
function fetchFrom(socket: string, path: string): ReturnType<typeof run> {
  return run(['curl', '-sf', '--unix-socket', socket, `http://localhost${path}`]);
}

async function admin(gateway: Gateway, path: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${gateway.adminPort}${path}`);
  return { status: response.status, text: await response.text() };
}

describe('postern-gateway serve', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => {
    echo = await startEcho();
  });
  after(() => echo.close());

  function gatewayWith(settings: object = {}): Promise<Gateway> {
    return startGateway(scratch, { targets: { echo: `127.0.0.1:${echo.port}` }, settings });
  }

  it('drains: unready, nothing new, open tunnels go on, exit 0 when they are done', async () => {
    const gateway = await gatewayWith();
    const tunnel = await open(gateway);
    assert.equal((await admin(gateway, '/readyz')).status, 200);
    gateway.running.signal('SIGTERM');
    await eventually(async () => (await admin(gateway, '/readyz')).status === 503);
    assert.equal((await admin(gateway, '/healthz')).status, 200);
    await assert.rejects(open(gateway), { code: 'ECONNREFUSED' });
    await assertEchoes(tunnel);
    tunnel.end();
    assert.equal(await gateway.running.ended, 0);
    assert.equal(auditOf(gateway).at(-1)?.cause, 'CLOSED');
  });

  it('ends what is still open when the grace time is over, exit 0, with an audit record', async () => {
    const gateway = await gatewayWith({ limits: { graceSeconds: 1 } });
    const tunnel = await open(gateway);
    gateway.running.signal('SIGTERM');
    assert.equal(await outcome(tunnel), 'ECONNRESET');
    assert.equal(await gateway.running.ended, 0);
    assert.equal(auditOf(gateway).at(-1)?.cause, 'GATEWAY_STOPPED');
  });

  for (const workers of [1, 2])
    it(`ends on SIGTERM although its log is not read, with ${workers} processes`, async () => {
      const gateway = await gatewayWith({ workers });
      await gateway.running.stop();
      const { configFile, port } = gateway;
      const args = [...gatewayCommand.slice(1), 'serve', '--config', configFile];
      const child = own(spawn(gatewayCommand[0]!, args, { stdio: ['ignore', 'pipe', 'ignore'] }));
      child.stdout.pause();
      // Refusals of one who is signed in have a line each: much more than the pipe takes.
      const refused = connectHead(gateway, `${'x'.repeat(60)}.example:22`);
      const isThere = (): Promise<boolean> =>
        exchange(port, refused).then(
          (answer) => codeOf(answer) === 'TARGET_DENIED',
          () => false,
        );
      await eventually(isThere);
      for (let round = 0; round < 15; round++)
        await Promise.all(Array.from({ length: 40 }, () => exchange(port, refused)));
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      const [code, signal] = (await ended) as [number | null, string | null];
      // A worker that ends makes the writes of the other processes wait: one that never returns is given up with its process.
      assert.ok(code === 0 || (workers > 1 && signal === 'SIGKILL'), `${code} ${signal}`);
    });

  it('exits at once on the second SIGTERM', async () => {
    const gateway = await gatewayWith();
    const tunnel = await open(gateway);
    tunnel.on('error', () => {});
    gateway.running.signal('SIGTERM');
    await eventually(async () => (await admin(gateway, '/readyz')).status === 503);
    gateway.running.signal('SIGTERM');
    assert.equal(await gateway.running.ended, 'SIGKILL');
  });

  it('takes new rules on SIGHUP, keeps its tunnels if it is to, and keeps the old rules when the new ones are bad', async () => {
    const gateway = await gatewayWith({ reload: { recheck: 'keep' } });
    const tunnel = await open(gateway);
    const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as { rules: unknown };
    writeFileSync(gateway.configFile, JSON.stringify({ ...settings, rules: 'none' }));
    gateway.running.signal('SIGHUP');
    await eventually(() => gateway.running.log().includes('the configuration was not reloaded'));
    (await open(gateway)).destroy();
    writeFileSync(gateway.configFile, JSON.stringify({ ...settings, rules: [] }));
    gateway.running.signal('SIGHUP');
    await eventually(() => gateway.running.log().includes('configuration reloaded'));
    assert.equal(codeOf(await exchange(gateway.port, connectHead(gateway))), 'TARGET_DENIED');
    await assertEchoes(tunnel);
    tunnel.destroy();
  });

  it('names the keys whose change waits for a restart, after SIGHUP', async () => {
    const gateway = await gatewayWith();
    const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as object;
    writeFileSync(gateway.configFile, JSON.stringify({ ...settings, resume: { keepMinutes: 1 } }));
    gateway.running.signal('SIGHUP');
    await eventually(() => gateway.running.log().includes('"keys":["resume.keepMinutes"]'));
    assert.match(gateway.running.log(), /configuration reloaded/);
  });

  it('ends a tunnel when its session time is over', async () => {
    const gateway = await gatewayWith({ limits: { sessionHours: 1 / 3600 } });
    assert.equal(await outcome(await open(gateway)), 'ECONNRESET');
    await eventually(() => auditOf(gateway).at(-1)?.cause === 'SESSION_EXPIRED');
  });

  it('has metrics that say what happened, and names no user and no target', async () => {
    const gateway = await gatewayWith();
    const tunnel = await open(gateway);
    await exchange(gateway.port, connectHead(gateway, 'forbidden:22'));
    const { text } = await admin(gateway, '/metrics');
    assert.match(text, /postern_tunnels_active\{entry="connect"\} 1/);
    assert.match(text, /postern_offers_refused_total\{entry="connect",code="TARGET_DENIED"\} 1/);
    assert.match(text, /postern_build_info\{version="\d+\.\d+\.\d+",node="v\d+/);
    assert.doesNotMatch(text, /tester|forbidden|127\.0\.0\.1/);
    tunnel.destroy();
  });

  it('has no health, metrics or admin paths on the public listener', async () => {
    const gateway = await gatewayWith();
    for (const path of ['/healthz', '/readyz', '/metrics', '/ssh/metrics', '/sessions']) {
      const request = `GET ${path} HTTP/1.1\r\nHost: x\r\nUser-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n`;
      assert.equal(statusOf(await exchange(gateway.port, request)), 404, path);
    }
  });

  it('tells a request without an upgrade what to do', async () => {
    const gateway = await gatewayWith();
    const answer = await exchange(
      gateway.port,
      'GET /ssh/tcp/echo/22/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    );
    assert.equal(statusOf(answer), 426);
    assert.equal(codeOf(answer), 'UPGRADE_REQUIRED');
  });

  it('is not ready, and opens nothing, while the audit cannot be written', async () => {
    const gateway = await gatewayWith({ audit: { file: '/dev/full', required: true } });
    assert.equal(codeOf(await exchange(gateway.port, connectHead(gateway))), 'AUDIT_UNAVAILABLE');
    assert.equal((await admin(gateway, '/readyz')).status, 503);
  });

  for (const count of [1001, 2000, 3000]) {
    it(`never handles a request with ${count} headers without its last ones (CVE-2026-58044)`, async () => {
      const gateway = await gatewayWith();
      const many = Array.from({ length: count }, (_, at) => `a${at}: b\r\n`).join('');
      const answer = await exchange(gateway.port, connectHead(gateway).replace('Proxy-', `${many}Proxy-`));
      assert.ok([400, 431].includes(statusOf(answer)), answer);
      assert.equal(
        auditOf(gateway).some(({ event }) => event === 'open'),
        false,
      );
    });
  }

  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    it(`survives a header called ${name} (CVE-2026-21710)`, async () => {
      const gateway = await gatewayWith();
      const tunnel = await rawUpgrade(
        gateway.port,
        connectHead(gateway).replace('Host:', `${name}: x\r\nHost:`),
      );
      await assertEchoes(tunnel);
      tunnel.destroy();
    });
  }

  it('answers a request that does not come to its end, or cannot be read, and closes', async () => {
    const gateway = await gatewayWith({ limits: { preAuthSeconds: 1 } });
    const cases: [request: string, status: number, code: string][] = [
      ['CONNECT echo:22 HTTP/1.1\r\nHost:', 408, 'REQUEST_TIMEOUT'],
      ['\u0016\u0003\u0001 not HTTP\r\n\r\n', 400, 'REQUEST_INVALID'],
      [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`, 431, 'HEADERS_TOO_LARGE'],
    ];
    for (const [request, status, code] of cases) {
      const answer = await exchange(gateway.port, request);
      assert.equal(statusOf(answer), status);
      assert.equal(codeOf(answer), code);
      assert.match(answer, /\r\nConnection: close\r\n/);
    }
  });

  it('uses the socket that systemd has opened', async () => {
    const listener = createServer();
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    const { fd } = (listener as unknown as { _handle: { fd: number } })._handle;
    const adminPort = await freePort();
    const configFile = scratch.path('activated.yaml');
    const listen = {
      listen: '127.0.0.1:1',
      admin: `127.0.0.1:${adminPort}`,
      audit: { file: scratch.path('activated.jsonl') },
      store: { file: scratch.path('activated.db') },
      control: `unix:${scratch.path('activated.ctl')}`,
    };
    writeFileSync(configFile, JSON.stringify({ ...listen, keyFile: scratch.path('activated.key') }));
    const script = `LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"`;
    const argv = ['sh', '-c', script, 'sh', ...gatewayCommand, 'serve', '--config', configFile];
    const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'ignore', 'inherit', fd] });
    try {
      await eventually(
        () =>
          fetch(`http://127.0.0.1:${adminPort}/readyz`).then(
            ({ ok }) => ok,
            () => false,
          ),
        'readiness',
        60_000,
      );
      listener.close();
      assert.equal((await fetch(`http://127.0.0.1:${port}/ssh/`)).status, 200);
    } finally {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    assert.equal(child.exitCode, 0);
  });

  it('listens on unix sockets, the admin one for its owner alone, and replaces a dead one', async () => {
    const [publicSocket, adminSocket] = [scratch.path('door.sock'), scratch.path('admin.sock')];
    const configFile = scratch.path('unix.yaml');
    const settings = {
      listen: `unix:${publicSocket}`,
      admin: `unix:${adminSocket}`,
      publicUrl: 'http://localhost/ssh/',
      audit: { file: scratch.path('unix.jsonl') },
      store: { file: scratch.path('unix.db') },
      control: `unix:${scratch.path('control.sock')}`,
      keyFile: scratch.path('unix.key'),
    };
    writeFileSync(configFile, JSON.stringify(settings));
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const child = spawn(gatewayCommand[0]!, [gatewayCommand[1]!, 'serve', '--config', configFile], {
        stdio: 'inherit',
      });
      await eventually(
        async () => child.exitCode !== null || (await fetchFrom(adminSocket, '/readyz')).code === 0,
        'readiness',
        60_000,
      );
      assert.equal(child.exitCode, null);
      assert.equal(statSync(adminSocket).mode & 0o777, 0o600);
      assert.equal((await fetchFrom(publicSocket, '/ssh/')).code, 0);
      child.kill(signal);
      await once(child, 'exit');
    }
  });

  it('takes over on unix sockets: a process answers at any time, and the last one removes them', async () => {
    const sockets = ['turn.door', 'turn.admin', 'turn.control'].map((name) => scratch.path(name));
    const [publicSocket, adminSocket, control] = sockets;
    const configFile = scratch.path('turn.yaml');
    const settings = {
      listen: `unix:${publicSocket}`,
      admin: `unix:${adminSocket}`,
      control: `unix:${control}`,
      publicUrl: 'http://localhost/ssh/',
      audit: { file: scratch.path('turn.jsonl') },
      store: { file: scratch.path('turn.db') },
      keyFile: scratch.path('turn.key'),
    };
    writeFileSync(configFile, JSON.stringify(settings));
    const [first, ...later] = Array.from({ length: 3 }, () => async () => {
      const child = own(
        spawn(gatewayCommand[0]!, [gatewayCommand[1]!, 'serve', '--config', configFile], {
          stdio: ['ignore', 'pipe', 'inherit'],
        }),
      );
      const exited = once(child, 'exit');
      for await (const chunk of child.stdout.iterator({ destroyOnReturn: false }))
        if (String(chunk).includes('"msg":"listening"')) break;
      child.stdout.resume();
      return { child, exited };
    });
    let running = await first!();
    for (const next of later) {
      const before = running;
      const starting = next();
      const started = new AbortController();
      void starting.then(() => started.abort());
      do assert.equal((await fetchFrom(publicSocket!, '/ssh/')).code, 0);
      while (!started.signal.aborted);
      running = await starting;
      // It had no tunnels.
      assert.equal((await before.exited)[0], 0);
      assert.equal((await fetchFrom(publicSocket!, '/ssh/')).code, 0);
      assert.equal((await fetchFrom(adminSocket!, '/readyz')).code, 0);
      assert.equal(statSync(adminSocket!).mode & 0o777, 0o600);
    }
    running.child.kill('SIGTERM');
    assert.equal((await running.exited)[0], 0);
    assert.deepEqual(
      sockets.filter((path) => existsSync(path)),
      [],
    );
  });

  it('writes a first configuration with --init, once, and runs with it', async () => {
    const folder = scratch.path('first');
    mkdirSync(folder);
    const configFile = `${folder}/postern.yaml`;
    const [port, adminPort] = [await freePort(), await freePort()];
    const env = { POSTERN__LISTEN: `127.0.0.1:${port}`, POSTERN__ADMIN: `127.0.0.1:${adminPort}` };
    const argv = [...gatewayCommand, 'serve', '--init', '--config', configFile];
    const running = await start(scratch, argv, { port, env });
    assert.equal(statSync(configFile).mode & 0o777, 0o600);
    await running.stop();
    const text = readFileSync(configFile, 'utf8');
    writeFileSync(configFile, `${text}\n# mine\n`);
    await (await start(scratch, argv, { port, env })).stop();
    assert.match(readFileSync(configFile, 'utf8'), /# mine/);
  });

  it('reports in one line why it cannot start', async () => {
    const gateway = await gatewayWith();
    const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as object;
    const other = (name: string, changes: object): string => {
      const file = scratch.path(name);
      writeFileSync(file, JSON.stringify({ ...settings, ...changes }));
      return file;
    };
    const elsewhere = { admin: `127.0.0.1:${await freePort()}`, control: `unix:${scratch.path('else.ctl')}` };
    const samePort = other('same-port.yaml', elsewhere);
    const sameControl = other('same-control.yaml', { publicUrl: 'https://other.example/ssh/' });
    const longPath = other('long-path.yaml', {
      control: `unix:${scratch.path('x'.repeat(100 - scratch.directory.length))}`,
    });
    const cases: [argv: string[], code: number, message: RegExp][] = [
      [
        ['serve', '--config', samePort],
        1,
        /^postern-gateway: cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\): another program listens there; [^\n]*\n$/,
      ],
      [['serve', '--config', sameControl], 1, /the gateway of https:\/\/localhost:\d+\/ssh\/ has it\n$/],
      [['serve', '--config', longPath], 2, /the path of a unix socket is at most 107 bytes\n$/],
      [['serve', '--config', '/nowhere/postern.yaml'], 2, /\/nowhere\/postern\.yaml/],
      [['serve', '--nonsense'], 2, /nonsense/],
      [['nonsense'], 2, /there is no command "nonsense"/],
    ];
    for (const [argv, code, message] of cases) {
      const { code: got, stderr } = await run([...gatewayCommand, ...argv]);
      assert.equal(got, code, stderr.toString());
      assert.match(stderr.toString(), message);
    }
    assert.equal((await admin(gateway, '/readyz')).status, 200);
  });

  it('has help and a version', async () => {
    for (const argv of [['--help'], ['-h'], ['serve', '--help']]) {
      const { code, stdout } = await run([...gatewayCommand, ...argv]);
      assert.equal(code, 0);
      assert.match(stdout.toString(), /^Runs the gateway: {2}postern-gateway serve/);
    }
    assert.match(
      (await run([...gatewayCommand, '--version'])).stdout.toString(),
      /^postern-gateway \d+\.\d+\.\d+\n$/,
    );
  });
});
