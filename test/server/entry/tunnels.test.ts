import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { startEcho, startParts, startTarget } from '../support/gateway-parts.ts';
import type { Parts } from '../support/gateway-parts.ts';
import { turn } from '../../hostile/support/lost-tunnel.ts';
import { collect, outcome, peers } from '../support/peers.ts';

const fiveMiB = 5 * 1024 * 1024;

for (const peer of peers) {
  describe(`a tunnel by ${peer.name}`, () => {
    let gateway: Parts;
    before(async () => (gateway = await startParts()));
    after(() => gateway.close());

    /** The gateway's record of the offer that `run` makes. */
    async function recordOf(run: () => Promise<void>): Promise<(typeof gateway.ended)[number]> {
      const count = gateway.ended.length;
      await run();
      await gateway.endedCount(count + 1);
      return gateway.ended.at(-1)!;
    }

    it('brings bytes there and back, and ends when both ways have ended', async () => {
      const echo = await startEcho();
      const sent = randomBytes(1_000_000);
      const record = await recordOf(async () => {
        const tunnel = await peer.open(gateway.port, `localhost:${echo.port}`);
        tunnel.end(sent);
        assert.ok((await collect(tunnel)).equals(sent));
      });
      assert.equal(record.end, 'CLOSED');
      assert.equal(record.bytesFromClient, sent.length);
      assert.equal(record.bytesFromTarget, sent.length);
      assert.equal(record.principal?.subject, 'alice');
      echo.close();
    });

    it('keeps what the target says after the client has ended', async () => {
      const target = await startTarget((socket) => {
        socket.resume();
        socket.once('end', () => socket.end(Buffer.alloc(fiveMiB, 7)));
      });
      const tunnel = await peer.open(gateway.port, `localhost:${target.port}`);
      tunnel.end('that is all');
      assert.equal((await collect(tunnel)).length, fiveMiB);
      target.close();
    });

    it('keeps what the client says after the target has ended', async () => {
      const got = Promise.withResolvers<Buffer>();
      const target = await startTarget((socket) => {
        socket.end('that is all');
        got.resolve(collect(socket));
      });
      const tunnel = await peer.open(gateway.port, `localhost:${target.port}`);
      assert.equal((await collect(tunnel)).toString(), 'that is all');
      tunnel.end(Buffer.alloc(fiveMiB, 7));
      assert.equal((await got.promise).length, fiveMiB);
      target.close();
    });

    it('ends when the client is gone after its end, and the target is silent', async () => {
      const target = await startTarget((socket) => void socket.resume());
      const record = await recordOf(async () => {
        const tunnel = await peer.open(gateway.port, `localhost:${target.port}`);
        tunnel.on('error', () => {});
        tunnel.end();
        while ([...gateway.sessions.records()].every(({ openedAt }) => openedAt === undefined)) await turn();
        await once(tunnel, 'finish');
        await turn();
        if (peer.name === 'connect') (tunnel as Socket).resetAndDestroy();
        else tunnel.destroy(new Error('gone'));
      });
      if (peer.name !== 'relay') assert.equal(record.end, 'CLIENT_LOST');
      target.close();
    });

    it('tells the target when the client breaks off', async () => {
      const broken = Promise.withResolvers<string>();
      const target = await startTarget((socket) => {
        socket.resume();
        socket.once('end', () => broken.resolve('end'));
        socket.once('error', (error: NodeJS.ErrnoException) => broken.resolve(error.code!));
        socket.write('hello');
      });
      const record = await recordOf(async () => {
        const tunnel = await peer.open(gateway.port, `localhost:${target.port}`);
        tunnel.on('error', () => {});
        await once(tunnel, 'data');
        if (peer.name === 'connect') (tunnel as Socket).resetAndDestroy();
        else tunnel.destroy(new Error('broken off'));
        assert.equal(await broken.promise, 'ECONNRESET');
      });
      assert.equal(record.end, 'CLIENT_LOST');
      target.close();
    });

    it('tells the client when the target breaks off', async () => {
      const target = await startTarget((socket) => {
        socket.once('data', () => socket.resetAndDestroy());
      });
      const record = await recordOf(async () => {
        const tunnel = await peer.open(gateway.port, `localhost:${target.port}`);
        tunnel.write('hello');
        assert.equal(await outcome(tunnel), 'ECONNRESET');
      });
      assert.equal(record.end, 'TARGET_LOST');
      target.close();
    });

    it('holds a target back while the client does not read, and loses nothing', async () => {
      const size = 64 * 1024 * 1024;
      const block = randomBytes(1024 * 1024);
      let sent = 0;
      const target = await startTarget((socket) => {
        const more = (): void => {
          while (sent < size) {
            sent += block.length;
            if (!socket.write(block)) return void socket.once('drain', more);
          }
          socket.end();
        };
        more();
      });
      const count = gateway.ended.length;
      const tunnel = await peer.open(gateway.port, `localhost:${target.port}`);
      // The target stalls: what it has handed to the kernel stays the same for a while.
      let before = -1;
      while (before !== sent) {
        before = sent;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      assert.ok(sent < size / 2, `${sent} bytes were taken for a client that reads none`);
      const hash = createHash('sha256');
      for await (const chunk of tunnel) hash.update(chunk as Buffer);
      const wanted = createHash('sha256');
      for (let at = 0; at < size; at += block.length) wanted.update(block);
      assert.equal(hash.digest('hex'), wanted.digest('hex'));
      tunnel.end();
      await gateway.endedCount(count + 1);
      target.close();
    });

    it('ends with the session', async () => {
      const echo = await startEcho();
      const record = await recordOf(async () => {
        const tunnel = await peer.open(gateway.port, `localhost:${echo.port}`);
        gateway.sessions.endAll('SESSION_EXPIRED');
        assert.notEqual(await outcome(tunnel), 'end');
      });
      assert.equal(record.end, 'SESSION_EXPIRED');
      echo.close();
    });
  });
}
