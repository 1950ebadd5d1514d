import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import type { ClientEntry } from '../../../client/entry/entry.ts';
import { http, relay } from '../../../client/entry/resumable.ts';
import { Secret } from '../../../protocol/secret.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { audited, auditOf, logs, startNext } from '../../e2e/support/generations.ts';
import { needs } from '../../e2e/support/needs.ts';
import { childrenOf, eventually, own, run } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { box, clientCommand, prepareSsh } from '../../e2e/support/ssh.ts';
import { startSshd } from '../../e2e/support/sshd.ts';
import { Browser, begin, codeFields, makeKey, password, requestTokens, signIn } from '../login/support.ts';
import { startEcho } from '../support/gateway-parts.ts';
import { startFaultProxy } from '../../support/fault-proxy.ts';

const scratch = openScratch();

/** A tunnel to the echo whose every byte is checked. */
class Conversation {
  readonly #tunnel: Duplex;
  readonly #sent = createHash('sha256');
  readonly #received = createHash('sha256');
  #sentBytes = 0;
  #receivedBytes = 0;

  constructor(tunnel: Duplex) {
    this.#tunnel = tunnel;
    tunnel.on('data', (chunk: Buffer) => {
      this.#received.update(chunk);
      this.#receivedBytes += chunk.length;
    });
    tunnel.on('error', () => {});
  }

  static async open(
    gateway: Gateway,
    { entry = relay, port = gateway.port }: { entry?: ClientEntry; port?: number } = {},
  ): Promise<Conversation> {
    const request = {
      gateway: new URL(`http://127.0.0.1:${port}/ssh/`),
      target: { host: 'echo', port: 22 },
      token: new Secret(readFileSync(gateway.tokenFile, 'utf8').trim()),
    };
    return new Conversation(await entry.open(request, direct, AbortSignal.timeout(60_000)));
  }

  /** Undefined while it is there. */
  get error(): (Error & { readonly code?: string }) | undefined {
    return this.#tunnel.errored ?? undefined;
  }

  send(bytes = randomBytes(16 * 1024)): void {
    this.#sent.update(bytes);
    this.#sentBytes += bytes.length;
    this.#tunnel.write(bytes);
  }

  /** Waits for the echo of all that was sent. */
  echoed(): Promise<void> {
    return eventually(() => this.#receivedBytes === this.#sentBytes, 'the echo', 60_000);
  }

  async finish(): Promise<void> {
    this.#tunnel.end();
    await finished(this.#tunnel, { writable: false });
    assert.equal(this.#received.digest('hex'), this.#sent.digest('hex'));
  }

  destroy(): void {
    this.#tunnel.destroy();
  }
}

function open(
  gateway: Gateway,
  count: number,
  how: { entry?: ClientEntry; port?: number } = {},
): Promise<Conversation[]> {
  return Promise.all(Array.from({ length: count }, () => Conversation.open(gateway, how)));
}

async function command(gateway: Gateway, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run([...gatewayCommand, ...args, '--config', gateway.configFile]);
  assert.equal(code, 0, stderr.toString());
  return stdout.toString();
}

async function sessionsOf(gateway: Gateway): Promise<{ id: string }[]> {
  return JSON.parse(await command(gateway, 'sessions', '--json')) as { id: string }[];
}

async function assertWholeAudit(...files: string[]): Promise<void> {
  for (const file of files) {
    const { code, stdout } = await run([...gatewayCommand, 'verify-audit', file]);
    assert.equal(code, 0, stdout.toString());
  }
}

async function admin({ adminPort }: Gateway, path: string): Promise<{ status: number; text: string }> {
  const headers = { connection: 'close' };
  return fetch(`http://127.0.0.1:${adminPort}${path}`, { headers }).then(
    async (answer) => ({ status: answer.status, text: await answer.text() }),
    () => ({ status: 0, text: '' }),
  );
}

/** The sum of a figure over its labels. */
async function figure(gateway: Gateway, name: string): Promise<number> {
  const { text } = await admin(gateway, '/metrics');
  const values = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
}

type LogLine = Readonly<Record<string, unknown>>;

function logOf({ running }: Pick<Gateway, 'running'>): LogLine[] {
  const lines = running.log().split('\n');
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as LogLine);
}

/** How many tunnels each worker has opened, so far. */
function openedBy(gateway: Pick<Gateway, 'running'>): ReadonlyMap<number, number> {
  const counts = new Map<number, number>();
  for (const { msg, worker } of logOf(gateway))
    if (msg === 'tunnel opened') counts.set(Number(worker), (counts.get(Number(worker)) ?? 0) + 1);
  return counts;
}

function isThere(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

const processEnd = (pid: number): Promise<void> =>
  eventually(() => !isThere(pid), `the end of ${pid}`, 60_000);

function change(gateway: Gateway, more: object): void {
  const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as object;
  writeFileSync(gateway.configFile, JSON.stringify({ ...settings, ...more }));
}

/** The code with which a new tunnel is refused; undefined where it opens. */
async function refusalAt(gateway: Gateway): Promise<string | undefined> {
  return Conversation.open(gateway).then(
    () => undefined,
    (error: { code?: string }) => error.code,
  );
}

describe('a gateway of several workers', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => (echo = await startEcho()));
  after(() => echo.close());

  function start(settings: object = {}): Promise<Gateway> {
    const limits = { perSubject: 1000, perAddress: 1000, graceSeconds: 60 };
    return startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo.port}` },
      settings: { workers: 2, limits, ...settings },
    });
  }

  const started = async (settings: object = {}): Promise<Gateway> => {
    const gateway = await start(settings);
    await logs(gateway.running, 'listening');
    return gateway;
  };

  describe('with forty tunnels', () => {
    let gateway: Gateway;
    let conversations: readonly Conversation[];
    before(async () => {
      gateway = await started();
      conversations = await open(gateway, 40);
      for (const each of conversations) each.send();
      await Promise.all(conversations.map((each) => each.echoed()));
    });

    it('divides them among its workers', () => {
      const counts = openedBy(gateway);
      assert.deepEqual(
        [...counts.keys()].toSorted((a, b) => a - b),
        [1, 2],
      );
      assert.ok(
        [...counts.values()].every((count) => count > 5),
        JSON.stringify([...counts]),
      );
    });

    it('lists all of them to its operator', async () => assert.equal((await sessionsOf(gateway)).length, 40));

    for (const [name, value] of [
      ['postern_tunnels_active', 40],
      ['postern_tunnels_opened_total', 40],
      ['postern_workers', 2],
    ] as const) {
      it(`adds up ${name} over its processes`, async () => assert.equal(await figure(gateway, name), value));
    }

    it('has the metrics of each process', async () => {
      const { text } = await admin(gateway, '/metrics');
      for (const worker of [0, 1, 2])
        assert.match(text, new RegExp(`^process_resident_memory_bytes\\{worker="${worker}"\\}`, 'm'));
    });

    it('is ready', async () => assert.equal((await admin(gateway, '/readyz')).status, 200));

    it('kill ends those of every worker, and counts them', async () => {
      await Promise.all(conversations.slice(0, 10).map((each) => each.finish()));
      await audited(gateway, 10, ({ event }) => event === 'end');
      assert.match(
        await command(gateway, 'kill', '--subject', 'tester', '--revoke'),
        /30 open sessions ended\.$/m,
      );
      await eventually(() => conversations.slice(10).every(({ error }) => error?.code === 'TUNNEL_KILLED'));
    });

    it('a revocation reaches every worker within a moment', async () => {
      // The workers learn of it within a quarter of a second; what opens in between ends then.
      await eventually(async () => (await refusalAt(gateway)) === 'TOKEN_INVALID');
    });

    it('stops with a whole audit that has an end for each open, and one revocation', async () => {
      gateway.running.signal('SIGTERM');
      assert.equal(await gateway.running.ended, 0);
      await assertWholeAudit(gateway.auditFile);
      assert.equal(auditOf(gateway).filter(({ event }) => event === 'revoke').length, 1);
      const of = (event: string): number => auditOf(gateway).filter((each) => each['event'] === event).length;
      assert.ok(of('open') >= 40);
      assert.equal(of('end'), of('open'));
    });

    it('leaves no socket behind', () => {
      const { control } = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as { control: string };
      assert.deepEqual(
        readdirSync(`${control.slice(5)}.d`).filter((name) => !name.endsWith('.lock')),
        [],
      );
    });
  });

  it('counts to its limits over all of them', async () => {
    const gateway = await started({ limits: { perSubject: 12, perAddress: 1000 } });
    const conversations = await open(gateway, 12);
    assert.equal(openedBy(gateway).size, 2);
    const more = await Promise.allSettled(Array.from({ length: 16 }, () => Conversation.open(gateway)));
    const codes = more.map((each) =>
      each.status === 'rejected' ? (each.reason as { code: string }).code : 'OPEN',
    );
    assert.deepEqual([...new Set(codes)], ['LIMIT_SUBJECT']);
    await Promise.all(conversations.slice(0, 4).map((each) => each.finish()));
    await audited(gateway, 4, ({ event }) => event === 'end');
    const again = await open(gateway, 4);
    await assert.rejects(open(gateway, 1), { code: 'LIMIT_SUBJECT' });
    for (const each of [...conversations, ...again]) each.destroy();
    await gateway.running.stop();
  });

  it('goes on with a tunnel that comes back to another worker', async () => {
    const gateway = await started();
    const breaker = await startFaultProxy(gateway.port);
    const conversations = await open(gateway, 16, { port: breaker.port });
    for (let round = 0; round < 3; round++) {
      for (const each of conversations) each.send();
      await Promise.all(conversations.map((each) => each.echoed()));
      breaker.cut('reset');
      await audited(gateway, 16 * (round + 1), ({ event }) => event === 'resume');
    }
    await Promise.all(conversations.map((each) => each.finish()));
    await audited(gateway, 16, ({ event }) => event === 'end');
    breaker.close();
    await gateway.running.stop();
    await assertWholeAudit(gateway.auditFile);
  });

  it('serves a carrier of plain requests whichever worker they reach', async () => {
    const gateway = await started();
    const conversations = await open(gateway, 12, { entry: http });
    for (let round = 0; round < 5; round++) {
      for (const each of conversations) each.send();
      await Promise.all(conversations.map((each) => each.echoed()));
    }
    await Promise.all(conversations.map((each) => each.finish()));
    assert.equal(openedBy(gateway).size, 2);
    await audited(gateway, 12, ({ event, cause }) => event === 'end' && cause === 'CLOSED');
    assert.deepEqual(
      auditOf(gateway).filter(({ event }) => event === 'resume'),
      [],
    );
    await gateway.running.stop();
  });

  it('lets people sign in at one and go on at another', async () => {
    const gateway = await started();
    const added = await run(
      [
        ...gatewayCommand,
        'user',
        'add',
        'alice',
        '--group',
        'dev',
        '--password-stdin',
        '--config',
        gateway.configFile,
      ],
      { input: `${password}\n` },
    );
    assert.equal(added.code, 0, added.stderr.toString());
    // Plain HTTP, although the gateway's public URL is one of https.
    const url = `http://127.0.0.1:${gateway.port}/ssh/`;
    change(gateway, { publicUrl: url });
    await gateway.running.stop();
    const next = await startNext(scratch, gateway);
    for (let round = 0; round < 4; round++) {
      const browser = new Browser();
      // Each request by a connection of its own, so that it reaches any worker.
      browser.headers['connection'] = 'close';
      const key = await makeKey();
      const beginning = begin(url, { dpop_jkt: key.thumbprint });
      const back = await signIn(browser, url, beginning);
      const tokens = await requestTokens(url, key, codeFields(beginning, back.location));
      assert.equal(tokens.status, 200, JSON.stringify(tokens));
    }
    await next.stop();
  });

  it('replaces a worker that was killed; the other one keeps its tunnels', async () => {
    const gateway = await started({ limits: { perSubject: 20, perAddress: 1000 } });
    const conversations = await open(gateway, 20);
    const [victim] = await childrenOf(gateway.running.pid);
    const { worker } = logOf(gateway).find(({ pid }) => pid === victim)!;
    const its = openedBy(gateway).get(Number(worker)) ?? 0;
    process.kill(victim!, 'SIGKILL');
    await logs(gateway.running, 'worker replaced');
    await eventually(async () => (await admin(gateway, '/readyz')).status === 200);
    await eventually(() => conversations.filter(({ error }) => error?.code === 'TUNNEL_GONE').length === its);
    const kept = conversations.filter(({ error }) => error === undefined);
    assert.equal(kept.length, 20 - its);
    for (const each of kept) each.send();
    await Promise.all(kept.map((each) => each.echoed()));
    assert.equal(await figure(gateway, 'postern_workers_replaced_total'), 1);
    assert.equal((await sessionsOf(gateway)).length, 20 - its);
    // What the dead one had counted is free again.
    const more = await open(gateway, its);
    await assert.rejects(open(gateway, 1), { code: 'LIMIT_SUBJECT' });
    await Promise.all([...kept, ...more].map((each) => each.finish()));
    await gateway.running.stop();
    await assertWholeAudit(gateway.auditFile);
  });

  it('puts new settings in place in all of them, or in none', async () => {
    const gateway = await started();
    const targets = { echo: { address: `127.0.0.1:${echo.port}` } };
    change(gateway, { targets, rules: [] });
    gateway.running.signal('SIGHUP');
    await logs(gateway.running, 'configuration reloaded');
    const refused = await Promise.allSettled(Array.from({ length: 12 }, () => Conversation.open(gateway)));
    assert.ok(refused.every((each) => each.status === 'rejected'));

    const good = readFileSync(gateway.configFile, 'utf8');
    writeFileSync(gateway.configFile, good.replace('"rules":[]', '"rules":[{"groups":["dev"]}]'));
    gateway.running.signal('SIGHUP');
    await logs(gateway.running, 'the configuration was not reloaded; the old one stays in effect');
    // What replaces a worker has the settings of the others, not those of the file.
    const [victim] = await childrenOf(gateway.running.pid);
    process.kill(victim!, 'SIGKILL');
    await logs(gateway.running, 'worker replaced');
    assert.equal(logOf(gateway).filter(({ msg }) => /not reloaded/.test(String(msg))).length, 1);
    await assert.rejects(open(gateway, 1), { code: 'TARGET_DENIED' });

    change(
      { ...gateway, configFile: gateway.configFile },
      {
        rules: [{ groups: ['dev'], targets: ['echo:*'] }],
        workers: 1,
      },
    );
    gateway.running.signal('SIGHUP');
    await eventually(() => logOf(gateway).filter(({ msg }) => msg === 'configuration reloaded').length === 2);
    await Promise.all((await open(gateway, 12)).map((each) => each.finish()));
    await gateway.running.stop();
  });

  it('goes on in a new audit file after rotation', async () => {
    const gateway = await started();
    const first = await open(gateway, 8);
    const rotated = `${gateway.auditFile}.1`;
    renameSync(gateway.auditFile, rotated);
    writeFileSync(gateway.auditFile, '');
    gateway.running.signal('SIGHUP');
    await logs(gateway.running, 'configuration reloaded');
    await Promise.all((await open(gateway, 8)).map((each) => each.finish()));
    await Promise.all(first.map((each) => each.finish()));
    await gateway.running.stop();
    await assertWholeAudit(rotated, gateway.auditFile);
    assert.equal(auditOf(gateway).filter(({ event }) => event === 'end').length, 16);
  });

  it('takes over with three workers from two, and with one process from three', async () => {
    const gateway = await started();
    const conversations = await open(gateway, 8);
    change(gateway, { workers: 3 });
    const next = await startNext(scratch, gateway);
    await audited(gateway, 8, ({ event, cause }) => event === 'resume' && cause === 'move');
    conversations.push(...(await open(gateway, 8)));
    for (const each of conversations) each.send();
    assert.equal((await sessionsOf(gateway)).length, 16);
    assert.equal(await figure(gateway, 'postern_tunnels_active'), 16);
    change(gateway, { workers: 1 });
    const last = await startNext(scratch, gateway);
    await audited(gateway, 24, ({ event, cause }) => event === 'resume' && cause === 'move');
    for (const each of conversations) each.send();
    await Promise.all(conversations.map((each) => each.finish()));
    assert.deepEqual(await Promise.all([gateway.running.ended, next.ended]), [0, 0]);
    assert.equal((await admin(gateway, '/readyz')).status, 200);
    assert.equal(await figure(gateway, 'postern_tunnels_opened_total'), 16);
    await last.stop();
    await assertWholeAudit(gateway.auditFile);
  });

  it('starts the program again on SIGUSR2', async () => {
    const gateway = await started();
    const conversations = await open(gateway, 6);
    gateway.running.signal('SIGUSR2');
    const leaders = (): LogLine[] => logOf(gateway).filter(({ msg }) => msg === 'listening');
    await eventually(() => leaders().length === 2, 'the next process', 60_000);
    const pid = Number(leaders()[1]!['pid']);
    scratch.onEnd(() => void (isThere(pid) && process.kill(pid, 'SIGKILL')));
    await audited(gateway, 6, ({ event, cause }) => event === 'resume' && cause === 'move');
    await Promise.all(conversations.map((each) => each.finish()));
    await processEnd(gateway.running.pid);
    const [after] = await open(gateway, 1);
    await after!.finish();
    process.kill(pid, 'SIGTERM');
    await processEnd(pid);
    await assertWholeAudit(gateway.auditFile);
  });

  it('ends without its first process, unless another one comes in the grace time', async () => {
    const gateway = await started();
    const conversations = await open(gateway, 6);
    const workers = await childrenOf(gateway.running.pid);
    gateway.running.signal('SIGKILL');
    // They accept no connections any more.
    await eventually(() => logOf(gateway).filter(({ msg }) => msg === 'worker ending').length === 2);
    await assert.rejects(open(gateway, 1));
    const next = await startNext(scratch, gateway);
    await audited(gateway, 6, ({ event, cause }) => event === 'resume' && cause === 'move');
    for (const each of conversations) each.send();
    await Promise.all(conversations.map((each) => each.finish()));
    await Promise.all(workers.map(processEnd));
    change(gateway, { limits: { graceSeconds: 1 } });
    await next.stop();

    const alone = await startNext(scratch, gateway);
    const [left] = await open(gateway, 1);
    const orphans = await childrenOf(alone.pid);
    alone.signal('SIGKILL');
    await Promise.all(orphans.map(processEnd));
    left!.destroy();
    await assertWholeAudit(gateway.auditFile);
    assert.equal(auditOf(gateway).at(-1)!['cause'], 'GATEWAY_STOPPED');
  });

  it('says why it does not start when a worker cannot', async () => {
    const gateway = await started();
    const file = scratch.path('other.yaml');
    const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as object;
    // Another gateway has the port.
    const others = { admin: 'unix:/nowhere/admin', control: `unix:${scratch.path('other.ctl')}` };
    writeFileSync(
      file,
      JSON.stringify({ ...settings, ...others, admin: `unix:${scratch.path('other.adm')}` }),
    );
    const { code, stderr } = await run([...gatewayCommand, 'serve', '--config', file]);
    assert.equal(code, 1);
    assert.match(stderr.toString(), /cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/);
    await gateway.running.stop();
  });

  it('shares one unix socket', async () => {
    const path = scratch.path('workers.sock');
    const [control, adminPath] = [scratch.path('unix.ctl'), scratch.path('unix.adm')];
    const gateway = await started();
    const settings = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as object;
    await gateway.running.stop();
    writeFileSync(
      gateway.configFile,
      JSON.stringify({
        ...settings,
        listen: `unix:${path}`,
        control: `unix:${control}`,
        admin: `unix:${adminPath}`,
      }),
    );
    const child = own(
      spawn(gatewayCommand[0]!, [...gatewayCommand.slice(1), 'serve', '--config', gateway.configFile]),
    );
    const status = (): Promise<number> =>
      new Promise((resolve) => {
        const sent = request(
          { socketPath: path, path: '/ssh/', headers: { host: 'localhost' } },
          (answer) => {
            answer.resume();
            resolve(answer.statusCode!);
          },
        );
        sent.on('error', () => resolve(0)).end();
      });
    await eventually(async () => (await status()) === 200, 'an answer', 60_000);
    child.kill('SIGTERM');
    await eventually(() => child.exitCode === 0);
    assert.equal(readdirSync(scratch.path('.')).includes('workers.sock'), false);
  });
});

describe('ssh through a gateway of several workers', needs('ssh', 'sshd', 'dist/postern.cjs'), () => {
  it('is as through one process', async () => {
    const sshd = await startSshd(scratch);
    const gateway = await startGateway(scratch, {
      targets: { box: `127.0.0.1:${sshd.port}` },
      settings: { workers: 2 },
    });
    const ssh = prepareSsh(scratch, {
      sshd,
      name: 'workers',
      proxyCommand: clientCommand('connect', '%h', '%p').join(' '),
      env: {
        POSTERN_GATEWAY: `http://127.0.0.1:${gateway.port}/ssh/`,
        POSTERN_TOKEN_FILE: gateway.tokenFile,
      },
    });
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => ssh.run([box, 'echo', 'hello'])));
    for (const { code, stdout, stderr } of outcomes) {
      assert.equal(code, 0, stderr.toString());
      assert.equal(stdout.toString(), 'hello\n');
    }
    await gateway.running.stop();
  });
});
