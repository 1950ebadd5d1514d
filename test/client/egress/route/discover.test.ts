import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { describe as describeRoute } from '../../../../client/egress/route/describe.ts';
import { planRoute } from '../../../../client/egress/route/environment.ts';
import { connectDiscovered } from '../../../../client/egress/route/discover.ts';
import type { RouteRequest } from '../../../../client/egress/route/route.ts';
import { answering, closedPort, listen, temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;
const gateway = { host: 'gw.example', port: 443 };

const pac = (said: string): string => `function FindProxyForURL() { return ${JSON.stringify(said)}; }`;

function wayBy(t: TestContext, location: string): RouteRequest {
  const settings = { pac: { location, from: 'POSTERN_PAC' } } as const;
  return { gateway, tls: true, proxy: settings, state: temporaryDirectory(t) };
}

/** A proxy that says what it is. */
async function proxy(t: TestContext, name: string): Promise<string> {
  return `PROXY 127.0.0.1:${await listen(t, answering(`HTTP/1.1 200 OK\r\n\r\n${name}`))}`;
}

async function read(way: RouteRequest): Promise<string> {
  const socket = await connectDiscovered(way, gateway, never);
  return Buffer.concat((await socket.toArray()) as Buffer[]).toString();
}

describe('connectDiscovered()', () => {
  it('asks once for many tunnels at once, and not again while the answer is kept', async (t) => {
    let count = 0;
    const said = await proxy(t, 'one');
    const server = createServer((_, response) => {
      count++;
      response.end(pac(said));
    });
    const way = wayBy(t, `http://127.0.0.1:${await listen(t, server)}/`);
    const all = await Promise.all(Array.from({ length: 20 }, () => read(way)));
    assert.deepEqual([new Set(all), count], [new Set(['one']), 1]);
    assert.equal(await read(way), 'one');
    assert.equal(count, 1);
  });

  it('does not spoil it for the others when the first one gives up', async (t) => {
    const path = join(temporaryDirectory(t), 'proxy.pac');
    writeFileSync(path, pac(await proxy(t, 'one')));
    const way = wayBy(t, path);
    const first = connectDiscovered(way, gateway, AbortSignal.timeout(1));
    const second = read(way);
    await assert.rejects(first, { code: 'GATEWAY_TIMEOUT' });
    assert.equal(await second, 'one');
  });

  it('asks again when what is remembered leads nowhere', async (t) => {
    const path = join(temporaryDirectory(t), 'proxy.pac');
    const way = wayBy(t, path);
    const gone = `PROXY 127.0.0.1:${await closedPort()}`;
    writeFileSync(path, pac(gone));
    await assert.rejects(read(way), { code: 'PROXY_UNREACHABLE' });
    writeFileSync(path, pac(await proxy(t, 'moved')));
    assert.equal(await read(way), 'moved');
    assert.equal(await read(way), 'moved');
  });

  it('asks again in another network', async (t) => {
    const path = join(temporaryDirectory(t), 'proxy.pac');
    const way = wayBy(t, path);
    writeFileSync(path, pac(await proxy(t, 'home')));
    assert.equal(await read(way), 'home');
    writeFileSync(path, pac(await proxy(t, 'work')));
    assert.equal(await read(way), 'home');
    // What is remembered belongs to a network that is not this one.
    const memory = join(way.state!, 'ways.json');
    const { networks } = JSON.parse(readFileSync(memory, 'utf8')) as { networks: Record<string, object> };
    const elsewhere = { version: 1, networks: { elsewhere: Object.values(networks)[0] } };
    writeFileSync(memory, JSON.stringify(elsewhere));
    assert.equal(await read(way), 'work');
  });
});

describe('describe()', () => {
  it('says what was chosen, by whom and why, without passwords', async (t) => {
    const state = temporaryDirectory(t);
    const way: RouteRequest = { gateway, tls: true, proxy: { https: 'http://u:canary@p:1' }, state };
    const said = await describeRoute(planRoute(way), never);
    assert.deepEqual(said, {
      source: 'HTTPS_PROXY',
      why: 'it is set',
      hops: ['http://p:1'],
      dead: [],
      isRemembered: false,
      needsSystemTrust: false,
    });
  });

  it('asks the PAC file, connects nowhere, and tells what was remembered', async (t) => {
    const path = join(temporaryDirectory(t), 'proxy.pac');
    writeFileSync(path, pac(`PROXY p:1; SOCKS q; DIRECT`));
    const way = wayBy(t, path);
    const first = await describeRoute(planRoute(way), never);
    assert.deepEqual(
      [first.source, first.hops, first.isRemembered],
      ['POSTERN_PAC', ['http://p:1', 'socks4a://q:1080', 'direct'], false],
    );
    assert.equal((await describeRoute(planRoute(way), never)).isRemembered, true);
  });

  it('tells why a PAC file is not followed', async (t) => {
    const said = await describeRoute(planRoute(wayBy(t, '/does/not/exist')), never);
    assert.deepEqual(said.hops, ['direct']);
    assert.match(said.pacError!, /cannot read the PAC file/);
  });
});
