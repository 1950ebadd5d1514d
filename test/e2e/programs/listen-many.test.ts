import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { before, describe, it } from 'node:test';
import { startNext } from '../support/generations.ts';
import { startListener, type Listener } from '../support/listener.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { eventually, run } from '../support/process.ts';
import { audited } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { clientCommand, type Ssh } from '../support/ssh.ts';
import { listen, openWorld, type World } from '../support/world.ts';

const scratch = openScratch();
const many = 200;

/** A program that has a tunnel to something that gives back all it gets. */
class Guest {
  readonly socket: Socket;
  #got = '';
  #look: () => void = () => {};
  #isOver = false;

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk: Buffer) => {
      this.#got += chunk.toString('latin1');
      this.#look();
    });
    this.socket.on('close', () => {
      this.#isOver = true;
      this.#look();
    });
  }

  /** Says something and waits until what comes back ends in `answer`. */
  async exchange(text: string, answer = text): Promise<void> {
    this.socket.write(text);
    await new Promise<void>((resolve, reject) => {
      this.#look = () => {
        if (this.#got.endsWith(answer)) resolve();
        else if (this.#isOver) reject(new Error(`it is over after ${JSON.stringify(this.#got)}`));
      };
      this.#look();
    });
    this.#got = '';
  }
}

describe(
  `${many} tunnels of one postern listen, through nginx`,
  needs(clientBundle, 'nginx', 'ss', 'pgrep'),
  () => {
    let world: World;
    let env: Ssh['env'];
    let listener: Listener;
    const guests: Guest[] = [];

    before(async () => {
      const port = await listen(scratch, (socket) => socket.pipe(socket));
      world = await openWorld(scratch, 'nginx', {
        settings: {
          targets: { echo: { address: `127.0.0.1:${port}` } },
          rules: [{ groups: ['dev'], targets: ['echo:*'] }],
          limits: { perSubject: 1000, perAddress: 1000 },
        },
      });
      ({ env } = world.ssh());
      listener = await startListener(scratch, ['--listen', '0'], env);
    });

    const all = async (text: string, answer = text): Promise<void> => {
      await Promise.all(guests.map((guest) => guest.exchange(text, answer)));
    };

    it('open at once', async () => {
      for (let at = 0; at < many; at++) guests.push(new Guest(listener.port()));
      await all('CONNECT echo:22 HTTP/1.0\r\n\r\n', '\r\n\r\n');
      await all('hello');
      assert.deepEqual(listener.codes(), []);
    });

    it('are shown by postern status, each', async () => {
      const { stdout } = await run(clientCommand('status', '--json', '--offline'), { env });
      const { tunnels } = JSON.parse(stdout.toString()) as { tunnels: readonly object[] };
      assert.equal(tunnels.length, many);
    });

    it('go on when nginx is killed and started', async () => {
      await world.front!.kill();
      const waiting = all('still here');
      await world.front!.start();
      await waiting;
      assert.deepEqual(listener.codes(), []);
    });

    it('go on when a new process of the gateway takes over', async () => {
      const before = audited(world, 'resume').length;
      const next = await startNext(scratch, world.gateway);
      await all('still here');
      const fresh = new Guest(listener.port());
      guests.push(fresh);
      await fresh.exchange('CONNECT echo:22 HTTP/1.0\r\n\r\n', '\r\n\r\n');
      await all('and now');
      // One that ends while it moves may stay at the gateway until resume.keepMinutes are over.
      const moved = (): number =>
        new Set(
          audited(world, 'resume')
            .slice(before)
            .map(({ session }) => session),
        ).size;
      await eventually(() => moved() >= many, 'the move of all to the new process', 60_000);
      assert.deepEqual(listener.codes(), []);
      assert.ok(next.log().length > 0);
    });

    it('end in order, and leave nothing behind', async () => {
      for (const { socket } of guests) socket.end();
      const directory = `${env['XDG_STATE_HOME']}/postern/tunnels`;
      await eventually(() => readdirSync(directory).length === 0, 'the end of all tunnels');
      await eventually(() => audited(world, 'end').length === guests.length, 'the end of all sessions');
      assert.ok(audited(world, 'end').every(({ cause }) => cause === 'CLOSED'));
      assert.deepEqual(listener.codes(), []);
      listener.signal('SIGTERM');
      assert.equal(await listener.ended, 0);
    });
  },
);
