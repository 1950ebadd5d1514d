// SECURITY: a request of a stranger with a header of many spaces, through the web servers people have in front. It costs
// the gateway no more than one of many letters, and the keys that a neighbour types come back meanwhile.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { makeCertificates } from '../e2e/support/certificates.ts';
import { startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { needs } from '../e2e/support/needs.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { listen } from '../e2e/support/world.ts';
import { exchange, statusOf } from '../server/support/gateway-parts.ts';
import { relayPeer, upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { FrontClient, startVariant } from './support/fronts.ts';

const scratch = openScratch();
const requests = 12;

/** What stands between two letters in the header: as many as the front lets through. */
const fillings = {
  letters: (length: number) => 'x'.repeat(length),
  spaces: (length: number) => ' '.repeat(length),
  tabs: (length: number) => '\t'.repeat(length),
  'spaces and commas': (length: number) => ' ,'.repeat(length / 2),
} as const;

/** nginx passes 8 KiB in one header field, HAProxy and Node.js 16 KiB in all. */
const fronts = { nothing: 15_000, haproxy: 15_000, nginx: 7900 } as const;

describe('a header of many spaces', needs('nginx', 'haproxy', 'openssl'), () => {
  let gateway: Gateway;
  let neighbour: Duplex;
  let ports: Readonly<Record<keyof typeof fronts, number>>;

  before(async () => {
    const echo = await listen(scratch, (socket) => void socket.pipe(socket));
    gateway = await startGateway(scratch, { targets: { echo: `127.0.0.1:${echo}` } });
    const certificates = await makeCertificates(scratch);
    const plan = { certificates, upstreamPort: gateway.port };
    ports = {
      nothing: gateway.port,
      haproxy: await startVariant(scratch, 'haproxy', plan),
      nginx: await startVariant(scratch, 'nginx', plan),
    };
    neighbour = await relayPeer.open(gateway.port, 'echo:22', readFileSync(gateway.tokenFile, 'utf8').trim());
  });

  after(() => neighbour.destroy());

  /** Ticks of processor time that the gateway has used, of 10 ms each. */
  function cpuTicks(): number {
    const fields = readFileSync(`/proc/${gateway.running.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  }

  async function type(key: string): Promise<void> {
    neighbour.write(key);
    const [echoed] = (await once(neighbour, 'data')) as [Buffer];
    assert.equal(echoed.toString(), key);
  }

  async function send(front: keyof typeof fronts, filling: keyof typeof fillings): Promise<number> {
    const field = `Sec-WebSocket-Protocol: a${fillings[filling](fronts[front])}b\r\n`;
    const request = upgradeHead('/ssh/v4/connect?host=echo&port=22', 'websocket', webSocketFields + field);
    if (front === 'nothing') return statusOf(await exchange(ports[front], request));
    const client = new FrontClient(ports[front]);
    const answer = await client.ask(request);
    client.close();
    return statusOf(answer ?? '');
  }

  /** The processor time for all of these requests, while the neighbour types. */
  async function ticksFor(front: keyof typeof fronts, filling: keyof typeof fillings): Promise<number> {
    const before = cpuTicks();
    for (let at = 0; at < requests; at++) {
      const [status] = await Promise.all([send(front, filling), type(String(at))]);
      assert.ok(status >= 400 && status < 500, `${status}`);
    }
    return cpuTicks() - before;
  }

  for (const front of ['nothing', 'haproxy', 'nginx'] as const) {
    it(`costs as much as any other, with ${front} in front`, async () => {
      await ticksFor(front, 'letters');
      const letters = await ticksFor(front, 'letters');
      for (const filling of ['spaces', 'tabs', 'spaces and commas'] as const) {
        const ticks = await ticksFor(front, filling);
        assert.ok(ticks <= 4 * letters + 20, `${ticks} ticks for ${filling}, ${letters} for letters`);
      }
    });
  }
});
