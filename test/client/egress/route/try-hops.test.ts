import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { connectViaRoute } from '../../../../client/egress/route/try-hops.ts';
import { parseProxy } from '../../../../client/egress/proxy/proxy-url.ts';
import type { Hop } from '../../../../client/egress/proxy/proxy-url.ts';
import { routeCache } from '../../../../client/egress/route/route-cache.ts';
import { answering, closedPort, listen, temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;

interface Place {
  readonly state: string;
  /** A gateway that can be reached. */
  readonly gateway: { readonly host: string; readonly port: number };
}

async function place(t: TestContext): Promise<Place> {
  const port = await listen(
    t,
    createServer((socket) => socket.end('straight')),
  );
  return { state: temporaryDirectory(t), gateway: { host: '127.0.0.1', port } };
}

/** A proxy that gives this answer. */
async function proxy(t: TestContext, answer: string): Promise<Hop> {
  return parseProxy(`http://127.0.0.1:${await listen(t, answering(answer))}`, 'here');
}

async function dead(): Promise<Hop> {
  return parseProxy(`http://127.0.0.1:${await closedPort()}`, 'here');
}

/** What comes through the way that is taken, or the code of the failure. */
async function along(hops: readonly Hop[], { state, gateway }: Place, pacError?: string): Promise<string> {
  const verdict = { source: 'GNOME', why: '', hops, ...(pacError === undefined ? {} : { pacError }) };
  const way = { gateway, tls: true, proxy: {}, state };
  try {
    const socket = await connectViaRoute(verdict, { request: way, gateway, signal: never });
    const [bytes] = (await socket.toArray()) as Buffer[];
    return String(bytes);
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    return `${code}: ${message}`;
  }
}

const yes = 'HTTP/1.1 200 OK\r\n\r\nby proxy';

describe('connectViaRoute()', () => {
  it('takes the first that gets through', async (t) => {
    const here = await place(t);
    assert.equal(await along([await proxy(t, yes), 'direct'], here), 'by proxy');
    assert.equal(await along([await dead(), await proxy(t, yes)], here), 'by proxy');
    assert.equal(await along([await proxy(t, 'HTTP/1.1 403 No\r\n\r\n'), 'direct'], here), 'straight');
  });

  it('tries a dead proxy last for a while, and in its turn when it is back', async (t) => {
    const here = await place(t);
    const [gone, other] = [await dead(), await proxy(t, yes)];
    const memory = routeCache(here.state);
    await along([gone, other], here);
    assert.ok(memory.isDead(gone));
    assert.ok(!memory.isDead(other));
    assert.match(await along([gone], here), /^PROXY_UNREACHABLE/);
    memory.keepAlive(gone);
    assert.ok(!memory.isDead(gone));
  });

  it('does not take a refusal for the end of a proxy', async (t) => {
    const here = await place(t);
    const refusing = await proxy(t, 'HTTP/1.1 403 No\r\n\r\n');
    await along([refusing, 'direct'], here);
    assert.ok(!routeCache(here.state).isDead(refusing));
  });

  it('stops at a proxy that wants a sign-in', async (t) => {
    const here = await place(t);
    const asking = await proxy(t, 'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n\r\n');
    assert.match(await along([asking, 'direct'], here), /^PROXY_SIGN_IN/);
  });

  it('tells of the first when none gets through, and who chose them', async (t) => {
    const here = await place(t);
    const hops = [await proxy(t, 'HTTP/1.1 403 No\r\n\r\n'), await dead()];
    assert.match(await along(hops, here), /^PROXY_REFUSED: .*403.*GNOME.*; http.* failed too/);
  });

  it('tells of the PAC file when it is of no use and there is no way without it', async (t) => {
    const here = await place(t);
    assert.equal(await along(['direct'], here, 'cannot fetch it'), 'straight');
    const nowhere = { ...here, gateway: { host: '127.0.0.1', port: await closedPort() } };
    assert.match(await along(['direct'], nowhere, 'cannot fetch it'), /^PAC_FAILED: cannot fetch it/);
  });

  it('does not go on when time is up', async (t) => {
    const here = await place(t);
    const way = { ...here, tls: true, proxy: {} };
    const verdict = { source: 'GNOME', why: '', hops: ['direct', 'direct'] as const };
    const signal = AbortSignal.abort();
    await assert.rejects(connectViaRoute(verdict, { request: way, gateway: here.gateway, signal }), {
      code: 'GATEWAY_TIMEOUT',
    });
  });
});
