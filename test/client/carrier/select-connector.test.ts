import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import type { ReconnectSupport } from '../../../client/entry/entry.ts';
import { http, relay } from '../../../client/entry/resumable.ts';
import type { EntryName } from '../../../protocol/entries.ts';
import { Secret } from '../../../protocol/secret.ts';
import { startEcho, startParts } from '../../server/support/gateway-parts.ts';
import type { Parts } from '../../server/support/gateway-parts.ts';

/** Something on the way that can be told to take `Upgrade` out of requests, and to cut what is open. */
interface Stripper {
  readonly server: Server;
  isStripping: boolean;
  /** So many of the next requests are reset. */
  losses: number;
  cut(): void;
}

function startStripper(port: number): Stripper {
  const cuts = new Set<() => void>();
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    const cut = (): void => {
      near.destroy();
      far.destroy();
    };
    cuts.add(cut);
    for (const socket of [near, far]) socket.on('error', cut).once('close', () => cuts.delete(cut));
    near.once('data', (head: Buffer) => {
      if (stripper.losses > 0) {
        stripper.losses--;
        near.resetAndDestroy();
        far.destroy();
        return;
      }
      const text = head.toString('latin1');
      far.write(
        stripper.isStripping ? text.replaceAll(/\r\n(?:Upgrade|Connection): [^\r]*/gi, '') : text,
        'latin1',
      );
      near.pipe(far);
      far.pipe(near);
    });
  });
  const stripper = {
    server,
    isStripping: false,
    losses: 0,
    cut: () => cuts.forEach((cut) => cut()),
  };
  return stripper;
}

describe('the ways of a resumable tunnel', () => {
  let parts: Parts;
  let stripper: Stripper;
  let target: { port: number; close(): void };
  const tunnels: Duplex[] = [];

  before(async () => {
    parts = await startParts();
    target = await startEcho();
    stripper = startStripper(parts.port);
    stripper.server.listen(0, '127.0.0.1');
    await once(stripper.server, 'listening');
  });
  after(async () => {
    for (const tunnel of tunnels) tunnel.destroy();
    stripper.cut();
    stripper.server.close();
    target.close();
    await parts.close();
  });

  async function open(entry: typeof relay, later: Partial<ReconnectSupport> = {}) {
    const request = {
      gateway: new URL(`http://127.0.0.1:${(stripper.server.address() as AddressInfo).port}/ssh/`),
      target: { host: '127.0.0.1', port: target.port },
      token: new Secret('good'),
    };
    const moves: EntryName[] = [];
    const moved = Promise.withResolvers<void>();
    const tunnel = await entry.open(
      {
        ...request,
        later: {
          withCredential: (_signal, use) => use(request),
          warn() {},
          onEntry(name) {
            moves.push(name);
            moved.resolve();
          },
          ...later,
        },
      },
      direct,
      AbortSignal.timeout(10_000),
    );
    tunnels.push(tunnel);
    return { tunnel, moves, moved: moved.promise };
  }

  it('one that began by WebSocket goes on by plain requests where no upgrade passes', async () => {
    const { tunnel, moves } = await open(relay);
    await says(tunnel, 'at home');
    stripper.isStripping = true;
    stripper.cut();
    await says(tunnel, 'in the train');
    assert.deepEqual(moves, ['http']);
    stripper.isStripping = false;
  });

  it('one that began by WebSocket stays there when requests are lost', async () => {
    const { tunnel, moves } = await open(relay);
    await says(tunnel, 'at home');
    stripper.losses = 2;
    stripper.cut();
    await says(tunnel, 'at home again');
    assert.equal(stripper.losses, 0);
    assert.deepEqual(moves, []);
  });

  it('one that began by plain requests moves to a WebSocket when that passes, and loses nothing', async () => {
    stripper.isStripping = true;
    const { tunnel, moves, moved } = await open(http, { betterAfterMs: 50 });
    await says(tunnel, 'in the train');
    stripper.isStripping = false;
    await moved;
    await says(tunnel, 'at home');
    assert.deepEqual(moves, ['relay']);
  });
});

/** Sends a text and waits until it has come back. */
async function says(tunnel: Duplex, text: string): Promise<void> {
  tunnel.write(text);
  for (let heard = ''; heard.length < text.length;) {
    const [chunk] = (await once(tunnel, 'data')) as [Buffer];
    heard += chunk.toString();
    assert.ok(text.startsWith(heard), heard);
  }
}
