import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { tunnelErrors, type TunnelErrorCode } from '../../../protocol/errors.ts';
import { issueToken, openKeyFile, ownAudience } from '../../../server/auth/gateway-key.ts';
import { ownIssuer } from '../../../server/config/issuer-urls.ts';
import { gatewayCommand } from '../support/gateway.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { eventually, output, start } from '../support/process.ts';
import { audited, openSession } from '../support/resume.ts';
import { openScratch, scratchOf } from '../support/scratch.ts';
import { box, clientCommand, prepareSsh } from '../support/ssh.ts';
import type { Terminal } from '../support/terminal.ts';
import { openWorld, type World } from '../support/world.ts';

const lacking = needs(clientBundle, 'ssh', 'sshd', 'ssh-keygen', 'openssl', 'script', 'nginx', 'pgrep');

/** A session whose connection to the gateway is cut, and the exit code of its client when it is over. */
interface CutSession {
  readonly world: World;
  readonly terminal: Terminal;
  readonly exitFile: string;
}

/** What has happened while a session was without a connection, and what its user sees. */
const endings: readonly {
  readonly what: string;
  readonly code: TunnelErrorCode;
  readonly happens: (world: World) => Promise<unknown>;
}[] = [
  {
    what: 'the token has expired',
    code: 'TOKEN_INVALID',
    async happens({ gateway }) {
      const config = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as {
        keyFile: string;
        publicUrl: string;
      };
      const hourMs = 3_600_000;
      const token = await issueToken(await openKeyFile(config.keyFile), {
        issuer: ownIssuer(new URL(config.publicUrl)),
        audience: ownAudience,
        subject: 'tester',
        groups: ['dev'],
        ttlMs: hourMs,
        now: Date.now() - 2 * hourMs,
      });
      writeFileSync(gateway.tokenFile, token);
    },
  },
  {
    what: 'the rules do not allow it any more',
    code: 'TARGET_DENIED',
    async happens({ gateway }) {
      const config = JSON.parse(readFileSync(gateway.configFile, 'utf8')) as { rules: object[] };
      config.rules = [{ groups: ['others'], targets: [`${box}:*`] }];
      writeFileSync(gateway.configFile, JSON.stringify(config));
      gateway.running.signal('SIGHUP');
      await eventually(() => gateway.running.log().includes('reloaded'), 'the reload');
    },
  },
  {
    what: 'the gateway was killed and started again',
    code: 'TUNNEL_GONE',
    async happens({ gateway, scratch }) {
      gateway.running.signal('SIGKILL');
      await gateway.running.ended;
      await start(scratch, [...gatewayCommand, 'serve', '--config', gateway.configFile], {
        port: gateway.port,
      });
    },
  },
  {
    what: 'the operator has ended it',
    code: 'TUNNEL_KILLED',
    happens: ({ gateway }) =>
      output([...gatewayCommand, 'kill', '--config', gateway.configFile, '--subject', 'tester']),
  },
];

// Each has a world of its own, and waits for most of its time.
const sideBySide = { ...lacking, concurrency: 2 };

describe('a session that cannot go on', sideBySide, () => {
  for (const { what, code, happens } of endings) {
    it(`ends at once when ${what}, and says so: ${code}`, async (t) => {
      const { world, terminal, exitFile } = await cutSession(t, code);
      await happens(world);
      await world.front!.start();
      const startedAt = performance.now();
      assert.equal(await terminal.ended, 255);
      t.diagnostic(`told ${Math.round(performance.now() - startedAt)} ms after the web server was back`);
      await eventually(() => existsSync(exitFile));
      assert.equal(Number(readFileSync(exitFile, 'utf8')), tunnelErrors[code].exit);
      const lines = terminal.shown().split('\r\n');
      assert.ok(
        lines.some((line) => line.startsWith('postern: ') && line.endsWith(`(${code})`)),
        terminal.shown(),
      );
      // In the raw mode of a terminal a line feed alone goes straight down.
      assert.doesNotMatch(terminal.shown(), /[^\r]\npostern/);
    });
  }
});

describe('a session that the operator ends', lacking, () => {
  it('says so in a line of its own, wherever the cursor was', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const terminal = await openSession(world, world.ssh());
    terminal.type('half a line');
    await terminal.shows('half a line');
    const { gateway } = world;
    await output([...gatewayCommand, 'kill', '--config', gateway.configFile, '--subject', 'tester']);
    assert.equal(await terminal.ended, 255);
    assert.match(terminal.shown(), /half a line\r\npostern: .*\(TUNNEL_KILLED\)\r\n/);
  });
});

describe('a session during a long cut', sideBySide, () => {
  it('tells its user, in lines of their own, what it waits for and when it goes on', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const terminal = await openSession(world, world.ssh());
    await world.front!.stop();
    await terminal.shows('\r\npostern: reconnecting… (the connection ended without a Close frame)\r\n');
    await world.front!.start();
    await terminal.shows('\r\npostern: resumed after ');
    await terminal.echo();
  });

  it('waits while the proxy answers that the gateway is away', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const terminal = await openSession(world, world.ssh());
    // A gateway that does not answer is to nginx one that is not there: 504 after its timeout, or 502.
    world.gateway.running.signal('SIGSTOP');
    await world.front!.kill();
    await world.front!.start();
    await terminal.shows('\r\npostern: reconnecting… ');
    world.gateway.running.signal('SIGCONT');
    const took = await terminal.echo();
    t.diagnostic(`the session went on ${Math.round(took)} ms after the gateway`);
  });
});

describe('a gateway without the relay', lacking, () => {
  const scratch = openScratch();
  let world: World;
  before(async () => {
    world = await openWorld(scratch, 'nginx', {
      settings: { entries: ['websocket', 'connect-tcp', 'connect'] },
    });
  });

  for (const via of [undefined, 'websocket', 'connect-tcp'] as const) {
    it(`is reached all the same (${via ?? 'the client chooses'})`, async () => {
      const { stdout, stderr } = await world.ssh(via).run([box, 'echo there']);
      assert.equal(stdout.toString(), 'there\n', stderr.toString());
    });
  }
});

describe('a gateway with the relay', lacking, () => {
  it('still takes clients that know only the other entries', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const { stdout } = await world.ssh('websocket').run([box, 'echo old']);
    assert.equal(stdout.toString(), 'old\n');
    assert.equal(audited(world, 'open')[0]!['entry'], 'websocket');
  });
});

async function cutSession(t: TestContext, name: string): Promise<CutSession> {
  const scratch = scratchOf(t);
  const world = await openWorld(scratch, 'nginx');
  const exitFile = scratch.path(`${name}.exit`);
  const client = clientCommand('connect', '%h', '%p').join(' ');
  const proxyCommand = `sh -c '${client}; echo $? >${exitFile}'`;
  const ssh = prepareSsh(scratch, { sshd: world.sshd, env: world.env, name, proxyCommand });
  const terminal = await openSession(world, ssh);
  await world.front!.stop();
  await eventually(() => audited(world, 'detach').length === 1, 'the end of the connection');
  return { world, terminal, exitFile };
}
