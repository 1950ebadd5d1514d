import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { z } from 'zod';
import {
  findRequest,
  finalMetrics,
  foundTunnel,
  gatewayDescription,
  killed,
  metricsSnapshot,
  notice,
  notReadyMessage,
  peerVersionOf,
  refusalMessage,
  reloadRequest,
  revokeRequest,
  sessionViews,
  workerNotice,
  workerOrders,
} from '../../../server/cluster/peer-messages.ts';

const target = { host: 'db1', port: 22 };
const holder = { issuer: 'https://idp.example', subject: 'alice' };
const view = { id: 'a', state: 'open', entry: 'relay', client: '192.0.2.1', since: 1 };
const figure = { name: 'postern_workers', help: 'h', type: 'gauge', aggregator: 'sum', values: [] };

/** As processes of version 0 write them. */
const messages: readonly [name: string, schema: z.ZodType, message: object][] = [
  ['/find', findRequest, { sid: 'abcdefgh.x', holder: { ...holder, keyThumbprint: 'k' } }],
  ['/find without a key', findRequest, { sid: 'abcdefgh.x', holder }],
  ['the response to /find', foundTunnel, { sessionId: 'a', target, address: target }],
  ['a refusal', refusalMessage, { code: 'TUNNEL_GONE', detail: 'd' }],
  ['/revoke', revokeRequest, { sessionId: 'a' }],
  ['/stop', notice, { by: 'abcdefgh' }],
  ['/stop without a name', notice, {}],
  ['the response to /kill', killed, { ended: 1 }],
  ['/last-figures', finalMetrics, { instance: 'abcdefgh', worker: '1', figures: [] }],
  ['/reload', reloadRequest, { text: 'workers: 2' }],
  ['/reload, second step', reloadRequest, { step: 'commit' }],
  ['the refusal of /reload', refusalMessage.pick({ detail: true }), { detail: 'd' }],
  ['the orders of a worker', workerOrders, { configText: 'workers: 2' }],
  ['the notice of a worker', workerNotice, { listening: 'abcdefgh' }],
  ['the notice of a worker that fails', workerNotice, { failing: true }],
  ['/gateway', gatewayDescription, { publicUrl: 'https://gw.example/ssh/' }],
];

describe('messages between processes', () => {
  for (const [name, schema, message] of messages) {
    it(`${name}: is read as version 0 writes it`, () => assert.deepEqual(schema.parse(message), message));

    it(`${name}: loses only what is not known`, () =>
      assert.deepEqual(schema.parse({ ...message, later: { more: true } }), message));
  }

  it('tell their version by a field, which version 0 does not send', () => {
    assert.equal(peerVersionOf({ 'postern-peer-version': '1' }), 1);
    assert.equal(peerVersionOf({ 'postern-peer-version': '12' }), 12);
    for (const headers of [{}, { 'postern-peer-version': 'x' }, { 'postern-peer-version': '' }])
      assert.equal(peerVersionOf(headers), 0);
    assert.deepEqual(workerNotice.parse({ v: 1, listening: 'abcdefgh' }), { v: 1, listening: 'abcdefgh' });
  });

  it('may list sessions with more fields, and in states that are not known', () => {
    assert.deepEqual(sessionViews.parse([{ ...view, state: 'moving', later: 1 }]), [{ ...view, later: 1 }]);
    assert.equal(sessionViews.safeParse([{ id: 'a' }]).success, false);
  });

  it('may have metrics of any version, as they came', () => {
    // A number that JSON does not have is null there.
    const figures = [{ ...figure, values: [{ value: null, labels: {}, later: 1 }], later: 1 }];
    assert.deepEqual(metricsSnapshot.parse(figures), figures);
    for (const value of [{}, [{}], [{ name: 'a' }], 'text'])
      assert.equal(metricsSnapshot.safeParse(value).success, false);
  });

  it('may give reasons of any words', () =>
    assert.deepEqual(notReadyMessage.parse(['draining']), ['draining']));
});
