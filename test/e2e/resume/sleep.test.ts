import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { patient } from '../../support/slowness.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { childrenOf, eventually } from '../support/process.ts';
import { audited, closeSession, isLong, openSession } from '../support/resume.ts';
import { scratchOf } from '../support/scratch.ts';
import { openWorld, type World } from '../support/world.ts';

const lacking = needs(clientBundle, 'ssh', 'sshd', 'ssh-keygen', 'openssl', 'script', 'nginx', 'pgrep');

/** nginx waits for a byte this long; the pings of both ends come every 20 to 25 s. */
const readTimeoutSeconds = 30;

const timeout = isLong ? 1_800_000 : patient(240_000);

// Most of the time of these is waiting.
describe('a session', { ...lacking, concurrency: true, timeout }, () => {
  it(`that is idle for three times the proxy's patience of ${readTimeoutSeconds} s loses nothing`, async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx', {
      front: { replacing: [/proxy_read_timeout +1h;/g, `proxy_read_timeout ${readTimeoutSeconds}s;`] },
    });
    const terminal = await openSession(world, world.ssh());
    await delay(3 * readTimeoutSeconds * 1000);
    await terminal.echo();
    await closeSession(terminal);
    assert.equal(audited(world, 'detach').length, 0);
    assert.equal(audited(world, 'resume').length, 0);
  });

  it('goes on when the machine of its client has slept and the connection is gone', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx', {
      // Less than the gateway's own patience, so that it is the proxy that gives up.
      front: { replacing: [/proxy_read_timeout +1h;/g, 'proxy_read_timeout 5s;'] },
    });
    const terminal = await openSession(world, world.ssh());
    const client = await clientOf(terminal.pid);
    process.kill(client, 'SIGSTOP');
    await eventually(() => audited(world, 'detach').length > 0, 'the end of the connection', 60_000);
    await delay(isLong ? 600_000 : 5000);
    process.kill(client, 'SIGCONT');
    t.diagnostic(`the session went on ${Math.round(await terminal.echo())} ms after`);
    await closeSession(terminal);
    assert.ok(audited(world, 'resume').length > 0);
  });

  it("goes on when its client has slept for longer than the gateway's patience", async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const terminal = await openSession(world, world.ssh());
    const client = await clientOf(terminal.pid);
    process.kill(client, 'SIGSTOP');
    const isNoticed = (): boolean => audited(world, 'detach').some(({ how }) => how === 'silent');
    await eventually(isNoticed, 'that the gateway notices', 120_000);
    process.kill(client, 'SIGCONT');
    t.diagnostic(`the session went on ${Math.round(await terminal.echo())} ms after`);
    await closeSession(terminal);
    assert.equal(audited(world, 'resume').length, 1);
  });

  it('goes on when everything on its way has stood still', async (t) => {
    const world = await openWorld(scratchOf(t), 'nginx');
    const terminal = await openSession(world, world.ssh());
    const all = [await clientOf(terminal.pid), ...(await frontOf(world)), world.gateway.running.pid];
    for (const pid of all) process.kill(pid, 'SIGSTOP');
    const shown = terminal.echo();
    // A keystroke is waited for two minutes.
    await delay(isLong ? 90_000 : 15_000);
    for (const pid of all.toReversed()) process.kill(pid, 'SIGCONT');
    const startedAt = performance.now();
    await shown;
    t.diagnostic(`the session went on ${Math.round(performance.now() - startedAt)} ms after`);
    await terminal.echo();
    await closeSession(terminal);
  });
});

/** The process of `postern connect` under the terminal of a session: terminal → ssh → client. */
async function clientOf(terminal: number): Promise<number> {
  const [shell] = await childrenOf(terminal);
  const below = await childrenOf(shell!);
  const [client] = (await Promise.all(below.map((pid) => childrenOf(pid)))).flat();
  const found = client ?? below[0];
  assert.ok(found !== undefined, 'no client under the terminal');
  return found;
}

async function frontOf({ front }: World): Promise<number[]> {
  const pid = front!.pid();
  return [pid, ...(await childrenOf(pid))];
}
