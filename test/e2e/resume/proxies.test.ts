import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { inspectingSquid } from '../support/inspecting-squid.ts';
import { clientBundle, needs } from '../support/needs.ts';
import {
  audited,
  closeSession,
  grownTo,
  isLong,
  makeFile,
  metric,
  openSession,
  sha256OfFile,
  succeeded,
} from '../support/resume.ts';
import { openScratch, scratchOf } from '../support/scratch.ts';
import { box, type Ssh } from '../support/ssh.ts';
import type { Terminal } from '../support/terminal.ts';
import { openWorld, type Path, type World } from '../support/world.ts';

const programs = ['ssh', 'sshd', 'ssh-keygen', 'openssl', 'script', 'scp', 'curl', 'pgrep', 'ss'];

/** What happens to the proxy, and whether connections survive it. */
interface Happening {
  readonly what: string;
  readonly losesConnections: boolean;
  readonly happen: (world: World) => Promise<void>;
}

const restart: Happening = {
  what: 'stopped and started',
  losesConnections: true,
  async happen({ front }) {
    await front!.stop();
    await front!.start();
  },
};

const crash: Happening = {
  what: 'killed and started',
  losesConnections: true,
  async happen({ front }) {
    await front!.kill();
    await front!.start();
  },
};

function reload(losesConnections: boolean): Happening {
  return { what: 'reloaded', losesConnections, happen: ({ front }) => front!.reload() };
}

const squidKilled: Happening = {
  what: 'killed and started',
  losesConnections: true,
  async happen({ corporateProxy }) {
    await corporateProxy!.kill();
    await corporateProxy!.start();
  },
};

const plans: Readonly<Record<Exclude<Path, 'direct'>, readonly [program: string, ...Happening[]]>> = {
  nginx: ['nginx', restart, reload(false), crash],
  haproxy: ['haproxy', restart, reload(false)],
  // Caddy ends all tunnels when it reads its configuration again.
  caddy: ['caddy', restart, reload(true)],
  apache: ['apache2', crash, reload(false)],
  squid: ['squid', squidKilled],
  // Lets no WebSocket through: what goes on there are requests and answers.
  'inspecting squid': [inspectingSquid, squidKilled],
};

for (const path of Object.keys(plans) as Exclude<Path, 'direct'>[]) {
  const [program, ...happenings] = plans[path];
  describe(`sessions through ${path}`, needs(clientBundle, ...programs, program, 'nginx'), () => {
    const scratch = openScratch();
    let world: World;
    let ssh: Ssh;
    let idle: Terminal;
    let copies = 0;
    before(async () => {
      world = await openWorld(scratch, path);
      ssh = world.ssh();
      idle = await openSession(world, ssh);
    });

    for (const happening of happenings) {
      it(`go on while it is ${happening.what}`, (t) => survive(t, happening));
    }

    async function survive(t: TestContext, { losesConnections, happen }: Happening): Promise<void> {
      const sizeMiB = 32;
      const before = {
        audited: audited(world, 'resume').length,
        counted: await metric(world, 'postern_resumes_total'),
      };
      const [from, to] = [makeFile(scratch.path('from'), sizeMiB), scratch.path(`to-${++copies}`)];
      const copy = succeeded(copySlowly(ssh, from, to));
      await grownTo(to, 4);
      await happen(world);
      const startedAt = performance.now();
      await idle.echo();
      t.diagnostic(`the session went on ${Math.round(performance.now() - startedAt)} ms after the proxy`);
      await copy;
      assert.equal(await sha256OfFile(to), await sha256OfFile(from));
      const lost = losesConnections ? 2 : 0;
      assert.equal(audited(world, 'resume').length - before.audited, lost);
      assert.equal((await metric(world, 'postern_resumes_total')) - before.counted, lost);
    }

    it('end as if nothing had happened', () => closeSession(idle));
  });
}

describe(
  'a large copy through a proxy that dies again and again',
  needs(clientBundle, ...programs, 'nginx'),
  () => {
    const [sizeMiB, everyMiB] = isLong ? [1024, 200] : [96, 20];
    it(`arrives: ${sizeMiB} MiB, nginx killed every ${everyMiB} MiB`, async (t) => {
      const scratch = scratchOf(t);
      const world = await openWorld(scratch, 'nginx');
      const [from, to] = [makeFile(scratch.path('from'), sizeMiB), scratch.path('to')];
      const copy = succeeded(copySlowly(world.ssh(), from, to, 600_000));
      for (let at = everyMiB; at < sizeMiB - 8; at += everyMiB) {
        await grownTo(to, at);
        await crash.happen(world);
      }
      await copy;
      assert.equal(await sha256OfFile(to), await sha256OfFile(from));
      const times = audited(world, 'resume').map(({ awayMs }) => awayMs);
      t.diagnostic(`${times.length} resumes, without a connection for ${times.join(', ')} ms`);
      assert.equal(times.length, Math.ceil((sizeMiB - 8) / everyMiB) - 1);
    });
  },
);

/** At 20 MiB/s, so that there is a middle. */
function copySlowly(ssh: Ssh, from: string, to: string, timeoutMs = 60_000) {
  const argv = ['scp', '-q', '-l', '160000', '-F', ssh.configFile, from, `${box}:${to}`];
  return ssh.command(argv, { timeoutMs });
}
