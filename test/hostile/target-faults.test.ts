// SECURITY: targets that fail in every way they can. Each is told from the others, in time.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { after, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { tcpDialer } from '../../server/dial/tcp.ts';
import { rulesPolicy } from '../../server/policy/rules.ts';
import {
  codeOf,
  exchange,
  generousLimits,
  startParts,
  startTarget,
  statusOf,
} from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { collect, outcome, peers, relayHead, upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { patient } from '../support/slowness.ts';

const dialMs = 600;
const good = 'Authorization: Bearer good\r\n';

/** A gateway with the real dialer and real rules; loopback is open, but for 127.0.0.66. */
function start(): Promise<Parts> {
  const network = { allow: ['127.0.0.0/8'], deny: ['127.0.0.66/32'], nameServers: ['127.0.0.1:9'] };
  return startParts({
    dialer: tcpDialer({ network, limits: { dialMs }, ownAddresses: [] }),
    policy: rulesPolicy({
      targets: [],
      rules: [
        {
          name: 'rule 1',
          groups: [],
          subjects: ['alice'],
          issuers: [],
          targets: [{ host: '*', port: '*' }],
        },
      ],
    }),
    limits: { ...generousLimits, dialMs },
  });
}

const ways: Readonly<Record<string, (target: string) => string>> = {
  relay: (target) => relayHead(target, good),
  websocket: (target) =>
    upgradeHead(`/ssh/tcp/${target.replace(':', '/')}/`, 'websocket', webSocketFields + good),
  'connect-tcp': (target) => upgradeHead(`/ssh/tcp/${target.replace(':', '/')}/`, 'connect-tcp', good),
  connect: (target) => `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${good}\r\n`,
};

const endings: (() => void)[] = [];
after(() => {
  for (const ending of endings) ending();
});

async function closedPort(): Promise<number> {
  const target = await startTarget(() => {});
  target.close();
  return target.port;
}

/** A port whose queue of connections is full: further ones get no answer at all. */
async function blackHole(): Promise<number> {
  // It never accepts: its loop does not turn any more.
  const program = `
    const server = require('node:net').createServer();
    server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
      require('node:fs').writeSync(1, server.address().port + '\\n');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  endings.push(() => child.kill('SIGKILL'));
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const port = Number(line);
  for (let at = 0; at < 6; at++) {
    const filler = connect(port, '127.0.0.1');
    filler.on('error', () => {});
    endings.push(() => filler.destroy());
    await Promise.race([once(filler, 'connect'), delay(200)]);
  }
  return port;
}

describe('a target', () => {
  for (const [way, ask] of Object.entries(ways)) {
    it(`that refuses is told with 502 at once, by ${way}`, async () => {
      const gateway = await start();
      const began = performance.now();
      const answer = await exchange(gateway.port, ask(`127.0.0.1:${await closedPort()}`));
      assert.deepEqual([statusOf(answer), codeOf(answer)], [502, 'DIAL_REFUSED']);
      assert.ok(performance.now() - began < patient(400));
      await gateway.close();
    });

    it(`that swallows everything is told with 504 when the time is up, by ${way}`, async () => {
      const gateway = await start();
      const port = await blackHole();
      const began = performance.now();
      const answer = await exchange(gateway.port, ask(`127.0.0.1:${port}`));
      const tookMs = performance.now() - began;
      assert.deepEqual([statusOf(answer), codeOf(answer)], [504, 'DIAL_TIMEOUT']);
      assert.ok(tookMs > dialMs - 50 && tookMs < dialMs + patient(500), `${tookMs} ms`);
      await gateway.close();
    });

    it(`that is closed by the network policy, or has no name server, is told so, by ${way}`, async () => {
      const gateway = await start();
      const closed = await exchange(gateway.port, ask('127.0.0.66:22'));
      assert.deepEqual([statusOf(closed), codeOf(closed)], [403, 'ADDRESS_DENIED']);
      const unnamed = await exchange(gateway.port, ask('nowhere.example:22'));
      assert.match(`${statusOf(unnamed)} ${codeOf(unnamed)}`, /^(502 NAME_FAILED|504 (NAME|DIAL)_TIMEOUT)$/);
      await gateway.close();
    });
  }

  it('that swallows everything does not hold what its client has left', async () => {
    const gateway = await start();
    const port = await blackHole();
    const socket = connect(gateway.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(ways.connect!(`127.0.0.1:${port}`));
    await delay(100);
    const began = performance.now();
    socket.resetAndDestroy();
    await gateway.endedCount(1);
    assert.equal(gateway.ended[0]!.end, 'CLIENT_GONE');
    assert.ok(performance.now() - began < patient(dialMs / 2));
    await gateway.close();
  });

  const banner = Buffer.from('SSH-2.0-banner\r\n');
  for (const peer of peers) {
    it(`that says nothing has its tunnel, which stays until a side ends it, by ${peer.name}`, async () => {
      const gateway = await start();
      const silent = await startTarget((socket) => socket.resume().on('end', () => socket.end()));
      const tunnel = await peer.open(gateway.port, `127.0.0.1:${silent.port}`);
      tunnel.on('error', () => {});
      await delay(dialMs + 200);
      assert.equal(tunnel.destroyed, false);
      assert.equal(gateway.sessions.count, 1);
      tunnel.destroy();
      await gateway.endedCount(1);
      await gateway.close();
      silent.close();
    });

    it(`that resets after its banner is a reset to the client, by ${peer.name}`, async () => {
      const gateway = await start();
      const target = await startTarget((socket: Socket) => {
        socket.write(banner);
        socket.once('data', () => socket.resetAndDestroy());
      });
      const tunnel = await peer.open(gateway.port, `127.0.0.1:${target.port}`);
      const [first] = (await once(tunnel, 'data')) as [Buffer];
      assert.equal(first.toString(), banner.toString());
      tunnel.write('a');
      assert.notEqual(await outcome(tunnel), 'end');
      await gateway.endedCount(1);
      assert.equal(gateway.ended[0]!.end, 'TARGET_LOST');
      await gateway.close();
      target.close();
    });

    it(`that ends after its banner is an end to the client, with the banner whole, by ${peer.name}`, async () => {
      const gateway = await start();
      const target = await startTarget((socket: Socket) => void socket.resume().end(banner));
      const tunnel = await peer.open(gateway.port, `127.0.0.1:${target.port}`);
      assert.equal((await collect(tunnel)).toString(), banner.toString());
      tunnel.end();
      await gateway.endedCount(1);
      assert.equal(gateway.ended[0]!.end, 'CLOSED');
      await gateway.close();
      target.close();
    });
  }
});
