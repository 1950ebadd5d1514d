import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { instanceApp } from '../../../server/cluster/peer-api.ts';
import { requestJson } from '../../../server/cluster/peer-client.ts';
import { Peers } from '../../../server/cluster/peers.ts';
import { RuntimeDirectory } from '../../../server/cluster/runtime-directory.ts';
import type { ProcessMetrics } from '../../../server/telemetry/metrics-aggregator.ts';
import { Metrics } from '../../../server/telemetry/metrics.ts';
import { startParts } from '../support/gateway-parts.ts';

const scratch = mkdtempSync(join(tmpdir(), 'postern-peers-'));
after(() => rmSync(scratch, { recursive: true }));

const target = { host: 'db1', port: 22 };
const alice = { issuer: 'https://idp.example', subject: 'alice' };
const view = { id: 'a', state: 'open', entry: 'relay', client: '192.0.2.1', since: 1 };

/** A process of version 0: it refuses fields that it does not know, and says no version. */
function version0(received: [path: string, body: unknown][]): FastifyInstance {
  const app = fastify({ forceCloseConnections: true });
  const owner = z.strictObject({
    issuer: z.string(),
    subject: z.string(),
    keyThumbprint: z.string().optional(),
  });
  const routes: Readonly<Record<string, { schema: z.ZodType; response: unknown }>> = {
    '/find': {
      schema: z.strictObject({ sid: z.string(), holder: owner }),
      response: { sessionId: 'a', target, address: target },
    },
    '/revoke': { schema: z.strictObject({ sessionId: z.string() }), response: {} },
    '/kill': {
      schema: z.strictObject({ subject: z.string(), revoke: z.boolean(), reason: z.string() }),
      response: { ended: 2, silent: 0 },
    },
    '/stop': { schema: z.strictObject({ by: z.string().optional() }), response: {} },
    '/last-figures': { schema: z.object({ instance: z.string() }), response: {} },
  };
  for (const [path, { schema, response }] of Object.entries(routes)) {
    app.post(path, (request, reply) => {
      received.push([path, schema.parse(request.body)]);
      return reply.send(response);
    });
  }
  app.get('/sessions', (_request, reply) => reply.send([view]));
  app.get('/figures', async (_request, reply) => reply.send(await new Metrics().snapshot()));
  return app;
}

describe('a process and an older one of the same gateway', () => {
  it('talk: requests have no field that the older one refuses', async () => {
    const directory = await RuntimeDirectory.open(join(scratch, 'older.ctl'));
    const received: [path: string, body: unknown][] = [];
    const older = version0(received);
    const path = directory.socketOf('older---')!;
    await older.listen({ path });
    const peers = new Peers(directory, 'newer---');
    const tunnel = await peers.find('older---.abc', alice);
    assert.deepEqual([tunnel.sessionId, tunnel.target, tunnel.address], ['a', target, target]);
    assert.deepEqual(await peers.sessions(), [view]);
    assert.deepEqual(await peers.kill({ subject: 'alice', revoke: false, reason: 'r' }), {
      ended: 2,
      silent: 0,
      processes: [],
    });
    await peers.broadcast('stop');
    await peers.sendFinalMetrics({ instance: 'newer---', figures: await new Metrics().snapshot() });
    const answers: ProcessMetrics[] = [];
    const living = await peers.metrics((answer) => answers.push(answer));
    assert.deepEqual([...living], ['older---']);
    assert.ok(answers[0]!.figures.some(({ name }) => name === 'postern_build_info'));
    assert.deepEqual(
      received.map(([route]) => route),
      ['/find', '/kill', '/stop', '/last-figures'],
    );
    assert.equal((await requestJson(path, { path: '/sessions', timeoutMs: 5000 })).version, 0);
    await older.close();
  });

  it('talk: the newer one answers requests without a version, and tells its own', async () => {
    const { parts, app } = await startInstance();
    const response = await app.inject({ method: 'POST', url: '/find', payload: { sid: 'x', holder: alice } });
    assert.equal(response.statusCode, 410);
    assert.equal(response.json<{ code: string }>().code, 'TUNNEL_GONE');
    assert.equal(response.headers['postern-peer-version'], '1');
    await app.close();
    await parts.close();
  });
});

describe('a process and a newer one of the same gateway', () => {
  it('talk: fields that are not known are ignored', async () => {
    const { parts, app, events } = await startInstance();
    const headers = { 'Postern-Peer-Version': '7' };
    const post = async (url: string, payload: object): Promise<number> =>
      (await app.inject({ method: 'POST', url, headers, payload: { ...payload, later: 1 } })).statusCode;
    assert.equal(await post('/find', { sid: 'x', holder: { ...alice, later: 1 } }), 410);
    assert.equal(await post('/revoke', { sessionId: 'x' }), 200);
    assert.equal(await post('/succeeded', { by: 'newer---' }), 200);
    assert.equal(await post('/stop', { by: 'newer---' }), 200);
    assert.equal(await post('/last-figures', { instance: 'newer---', figures: [] }), 200);
    assert.deepEqual(events, ['succeeded newer---', 'stop newer---', 'last newer---']);
    await app.close();
    await parts.close();
  });

  it('do not end sessions by a condition that is not known', async () => {
    const { parts, app, events } = await startInstance();
    const payload = { subject: 'alice', entry: 'relay' };
    assert.equal((await app.inject({ method: 'POST', url: '/kill', payload })).statusCode, 400);
    assert.deepEqual(events, []);
    await app.close();
    await parts.close();
  });
});

async function startInstance(): Promise<{
  parts: Awaited<ReturnType<typeof startParts>>;
  app: FastifyInstance;
  events: string[];
}> {
  const events: string[] = [];
  const parts = await startParts();
  const source = {
    live: parts.sessions,
    relays: parts.relays,
    sessions: () => parts.sessions.records(),
    kill: async () => ({ ended: events.push('kill') }),
    metrics: () => new Metrics().snapshot(),
    onSuperseded: (by: string | undefined) => void events.push(`succeeded ${by}`),
    stop: async (by: string | undefined) => void events.push(`stop ${by}`),
  };
  const app = instanceApp(source, {
    onFinalMetrics: ({ instance }) => void events.push(`last ${instance}`),
  });
  return { parts, app, events };
}
