import assert from 'node:assert/strict';
import { copyFile, rm } from 'node:fs/promises';
import { before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { clientBundle } from '../support/needs.ts';
import { needsNetwork, openNetwork, type Cut, type Network } from '../support/network.ts';
import { eventually, output } from '../support/process.ts';
import {
  audited,
  closeSession,
  isLong,
  makeFile,
  openSession,
  sha256OfFile,
  succeeded,
  type AuditRecord,
} from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { box, type Ssh } from '../support/ssh.ts';
import type { Terminal } from '../support/terminal.ts';
import { openWorld, type World } from '../support/world.ts';
import { patient } from '../../support/slowness.ts';

const programs = ['ssh', 'sshd', 'ssh-keygen', 'openssl', 'script', 'scp', 'rsync', 'git', 'nginx'];

/** How often each cut, and for how many seconds. */
const plan: readonly (readonly [seconds: number, times: number])[] = isLong
  ? [
      [1, 60],
      [10, 12],
      [60, 3],
    ]
  : [
      [1, 6],
      [10, 1],
    ];
const kinds = ['down', 'blackhole', 'reset', 'nat'] as const satisfies readonly Cut[];

describe('sessions over a network that is cut', needsNetwork(clientBundle, ...programs), () => {
  const scratch = openScratch();
  let network: Network;
  let world: World;
  let ssh: Ssh;
  before(async () => {
    network = await openNetwork(scratch);
    world = await openWorld(scratch, 'nginx', {
      front: { address: network.address },
      host: 'gw.example',
      clientNamespace: network.client,
    });
    ssh = world.ssh();
  });

  it(
    'all go on, and their users notice nothing',
    { timeout: isLong ? 3_600_000 : patient(300_000) },
    async (t) => {
      const [typing, idle] = [await openSession(world, ssh), await openSession(world, ssh)];
      const work = await startWork(world, ssh);
      for (const [seconds, times] of plan) {
        for (const kind of kinds) {
          const figures: string[] = [];
          for (let count = 0; count < times; count++) {
            figures.push(await cutOnce({ network, work, typing, idle }, kind, seconds));
          }
          t.diagnostic(`${kind} ${seconds} s: ${figures.join(', ')} ms after`);
        }
      }
      const done = await work.finish();
      t.diagnostic(`unharmed: ${JSON.stringify(done)}; ${audited(world, 'resume').length} resumes`);
      for (const [what, times] of Object.entries(done)) assert.ok(times > 0, what);
      await closeSession(typing);
      await closeSession(idle);
    },
  );

  for (const kind of isLong ? kinds : (['nat'] as const)) {
    it(`20 of them go on through one cut (${kind})`, async (t) => {
      const sessions = await Promise.all(Array.from({ length: 20 }, () => openSession(world, ssh)));
      await network.cut(kind);
      const shown = sessions.map((session) => session.echo());
      await delay(2000);
      await network.restore();
      const restoredAt = performance.now();
      await Promise.all(shown);
      t.diagnostic(`the last of them ${Math.round(performance.now() - restoredAt)} ms after`);
      for (const session of sessions) await closeSession(session);
    });
  }

  it('those that share one connection of ssh go on together (ControlMaster, ControlPersist)', async (t) => {
    const control = ['-o', `ControlPath=${scratch.path('cm')}`];
    const shared = [...control, '-o', 'ControlMaster=auto', '-o', 'ControlPersist=60'];
    const opened = audited(world, 'open').length;
    await succeeded(ssh.run([...shared, box, 'true']));
    const [one, two] = [await openSession(world, ssh, control), await openSession(world, ssh, control)];
    await network.cut('reset');
    const shown = [one.echo(), two.echo()];
    await delay(2000);
    await network.restore();
    const restoredAt = performance.now();
    await Promise.all(shown);
    t.diagnostic(`both ${Math.round(performance.now() - restoredAt)} ms after`);
    assert.equal((await succeeded(ssh.run([...control, box, 'echo three']))).stdout.toString(), 'three\n');
    for (const session of [one, two]) await closeSession(session);
    await ssh.run([...control, '-O', 'exit', box]);
    assert.equal(audited(world, 'open').length - opened, 1);
  });

  it('go on when the client gets another address', async (t) => {
    const [typing, idle] = [await openSession(world, ssh), await openSession(world, ssh)];
    const resumed = audited(world, 'resume').length;
    await network.moveClient();
    const took = await typing.echo();
    t.diagnostic(`the session went on ${Math.round(took)} ms after the change`);
    // Nothing is typed here: the client itself has noticed.
    const since = (): AuditRecord[] => audited(world, 'resume').slice(resumed);
    await eventually(() => since().length >= 2, 'the resume of the idle session', 60_000);
    await idle.echo();
    assert.ok(since().some(({ cause }) => cause === 'network'));
    assert.ok(since().every(({ client }) => client === '10.77.0.3'));
    for (const session of [typing, idle]) await closeSession(session);
  });

  it('go on when names cannot be looked up any more', async (t) => {
    const session = await openSession(world, ssh);
    await network.loseDns();
    await network.cut('reset');
    const shown = session.echo();
    await delay(1000);
    await network.restore();
    const restoredAt = performance.now();
    await shown;
    t.diagnostic(`the session went on ${Math.round(performance.now() - restoredAt)} ms after`);
    await closeSession(session);
  });
});

/** Cuts with everything under way, and waits until both sessions have shown a keystroke. Returns both times. */
async function cutOnce(
  parts: { network: Network; work: Work; typing: Terminal; idle: Terminal },
  kind: Cut,
  seconds: number,
): Promise<string> {
  const { network, work, typing, idle } = parts;
  await work.isUnderWay();
  await network.cut(kind);
  const shown = typing.echo();
  await delay(seconds * 1000);
  await network.restore();
  const restoredAt = performance.now();
  const times = await Promise.all(
    [shown, idle.echo()].map((echo) => echo.then(() => Math.round(performance.now() - restoredAt))),
  );
  // On a quiet machine two seconds; this only tells a resume from a retransmission after minutes.
  assert.ok(Math.max(...times) < patient(15_000), `${kind} ${seconds} s: ${times.join(', ')} ms`);
  work.goOn();
  return times.join('/');
}

/** Transfers that begin again as soon as they have ended. */
interface Work {
  /** Resolves when they are in the middle; none begins from then on. */
  isUnderWay(): Promise<void>;
  /** Lets them begin again. */
  goOn(): void;
  /** Resolves with how many of each have ended unharmed, when the last has. */
  finish(): Promise<Readonly<Record<string, number>>>;
}

async function startWork(world: World, ssh: Ssh): Promise<Work> {
  const { scratch, sshd } = world;
  const path = (name: string): string => scratch.path(`work-${name}`);
  const file = makeFile(path('file'), 24);
  const author = ['-c', 'user.name=tester', '-c', 'user.email=tester@gw.example'];
  const commit = (work: string): Promise<Buffer> =>
    output(['git', '-C', work, ...author, 'commit', '-q', '--allow-empty', '-m', 'one']);
  await output(['git', 'init', '-q', '-b', 'main', path('seed')]);
  await commit(path('seed'));

  const accepted = (): number => sshd.running.log().match(/Accepted publickey/g)?.length ?? 0;
  const state = { started: accepted(), running: 0, isOver: false };
  let whole = Promise.withResolvers<void>();
  whole.resolve();
  scratch.onEnd(() => {
    state.isOver = true;
    whole.resolve();
  });
  const ready = (): boolean => state.running >= 3 && accepted() === state.started;
  const through = async (...argv: string[]): Promise<void> => {
    await whole.promise;
    state.started++;
    state.running++;
    const env = { GIT_SSH_COMMAND: `ssh -F ${ssh.configFile}` };
    await succeeded(ssh.command(argv, { env, timeoutMs: isLong ? 900_000 : 180_000 })).finally(
      () => state.running--,
    );
  };
  const isSame = async (other: string): Promise<void> =>
    assert.equal(await sha256OfFile(other), await sha256OfFile(file));

  const tasks: Readonly<Record<string, () => Promise<void>>> = {
    async upload() {
      await through('scp', '-q', '-F', ssh.configFile, file, `${box}:${path('up')}`);
      await isSame(path('up'));
    },
    async download() {
      await through('scp', '-q', '-O', '-F', ssh.configFile, `${box}:${file}`, path('down'));
      await isSame(path('down'));
    },
    async rsync() {
      await rm(path('mirror'), { recursive: true, force: true });
      await through('rsync', '-a', '-e', `ssh -F ${ssh.configFile}`, file, `${box}:${path('mirror')}/`);
      await isSame(`${path('mirror')}/work-file`);
    },
    async git() {
      const [work, again] = [path('clone'), path('again')];
      for (const each of [work, again, path('bare')]) await rm(each, { recursive: true, force: true });
      await output(['git', 'clone', '-q', '--bare', path('seed'), path('bare')]);
      await through('git', 'clone', '-q', `${box}:${path('bare')}`, work);
      await copyFile(file, `${work}/file`);
      await output(['git', '-C', work, 'add', 'file']);
      await commit(work);
      await through('git', '-C', work, 'push', '-q', 'origin', 'main');
      await through('git', 'clone', '-q', `${box}:${path('bare')}`, again);
      await isSame(`${again}/file`);
    },
  };
  const done: Record<string, number> = {};
  const failed = Promise.withResolvers<never>();
  const loops = Object.entries(tasks).map(async ([name, task]) => {
    for (done[name] = 0; !state.isOver; done[name]++) await task();
  });
  for (const loop of loops) loop.catch(failed.reject);
  failed.promise.catch(() => {});
  return {
    async isUnderWay() {
      await Promise.race([eventually(ready, 'the middle of transfers', 60_000), failed.promise]);
      whole = Promise.withResolvers();
    },
    goOn() {
      whole.resolve();
    },
    async finish() {
      state.isOver = true;
      await Promise.all(loops);
      return done;
    },
  };
}
