import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer, rootCertificates } from 'node:tls';
import { chooseEgress } from '../../../../client/egress/choose.ts';
import { planRoute } from '../../../../client/egress/route/environment.ts';
import { findAuthority } from '../../../../client/egress/tls/last-ca.ts';
import { routeCache } from '../../../../client/egress/route/route-cache.ts';
import type { RouteRequest } from '../../../../client/egress/route/route.ts';
import { authority, certificate, key, otherCertificate } from '../../certificates.ts';
import { listen, temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;
const ours = fingerprintOf(authority);

function fingerprintOf(pem: string): string {
  return new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();
}

/** A gateway, and how many connections it had. */
async function gatewayWith(
  t: TestContext,
  cert = certificate,
): Promise<{ way: RouteRequest; count: () => number }> {
  const directory = temporaryDirectory(t);
  const caFile = join(directory, 'ca.pem');
  writeFileSync(caFile, authority);
  let connections = 0;
  const server = createTlsServer({ key, cert }, (socket) => socket.end('hello'));
  server.on('connection', () => connections++);
  const gateway = { host: 'localhost', port: await listen(t, server) };
  const way = { gateway, tls: true, proxy: {}, state: directory, caFile, trustsSystem: false };
  return { way, count: () => connections };
}

async function read(way: RouteRequest): Promise<string> {
  const socket = await chooseEgress(planRoute(way)).connect(way.gateway, never);
  return Buffer.concat((await socket.toArray()) as Buffer[]).toString();
}

describe('the authority that vouched the last time', () => {
  it('is remembered, and enough the next time', async (t) => {
    const { way, count } = await gatewayWith(t);
    assert.equal(await read(way), 'hello');
    assert.equal(routeCache(way.state).lastCas.recall('localhost'), ours);
    assert.equal(await read(way), 'hello');
    assert.equal(count(), 2);
  });

  it('is not trusted for having been written down', async (t) => {
    const { way } = await gatewayWith(t);
    const { caFile: _caFile, ...withoutCaFile } = way;
    routeCache(way.state).lastCas.keep('localhost', ours);
    await assert.rejects(read(withoutCaFile), { code: 'TLS_FAILED' });
  });

  it('is asked first and not alone: when another vouches now, that one is remembered', async (t) => {
    const { way, count } = await gatewayWith(t);
    routeCache(way.state).lastCas.keep('localhost', fingerprintOf(rootCertificates[0]!));
    assert.equal(await read(way), 'hello');
    assert.equal(routeCache(way.state).lastCas.recall('localhost'), ours);
    // Older Node.js does not tell whom it trusts, and is not asked for one of them.
    assert.ok(count() <= 2);
  });

  it('does not make a certificate for another name good', async (t) => {
    const { way, count } = await gatewayWith(t, otherCertificate);
    routeCache(way.state).lastCas.keep('localhost', ours);
    await assert.rejects(read(way), { code: 'TLS_FAILED' });
    assert.equal(count(), 1);
  });
});

describe('findAuthority()', () => {
  it('finds a certificate by its fingerprint among many', () => {
    assert.equal(findAuthority(ours, [...rootCertificates, authority]), authority);
    assert.equal(findAuthority(ours, rootCertificates), undefined);
  });
});
