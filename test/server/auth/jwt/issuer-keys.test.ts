import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { exportJWK, generateKeyPair } from 'jose';
import { z } from 'zod';
import { openIssuerKeys } from '../../../../server/auth/jwt/issuer-keys.ts';
import type { IssuerKeys } from '../../../../server/auth/jwt/issuer-keys.ts';
import type { KeySource } from '../../../../server/auth/jwt/jwks-cache.ts';
import { openSqliteStore } from '../../../../server/store/open-store.ts';
import type { Store } from '../../../../server/store/store.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-issuer-keys-'));
let files = 0;
const hourMs = 3_600_000;

const has = async (source: KeySource | undefined, kid: string): Promise<boolean | undefined> =>
  source?.find({ alg: 'EdDSA', kid }).then(
    (keys) => keys.length > 0,
    () => undefined,
  );

describe('the keys of issuers', () => {
  const endpoint = { status: 200, kids: ['k1'], requests: 0, padding: '' };
  let url: URL;
  let file: string;
  let store: Store;
  let now = Date.now();
  const jwk = generateKeyPair('EdDSA').then(({ publicKey }) => exportJWK(publicKey));
  const setOf = async (kids: readonly string[]): Promise<string> =>
    JSON.stringify({
      keys: await Promise.all(kids.map(async (kid) => ({ ...(await jwk), kid }))),
      p: endpoint.padding,
    });
  const server = createServer((_request, response) => {
    endpoint.requests += 1;
    void setOf(endpoint.kids).then((text) => response.writeHead(endpoint.status).end(text));
  });

  before(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`);
  });
  after(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  beforeEach(async () => {
    Object.assign(endpoint, { status: 200, kids: ['k1'], requests: 0, padding: '' });
    now = Date.now();
    file = join(folder, `${++files}.db`);
    store = await openSqliteStore(file, { now: () => now });
  });
  afterEach(() => store.close());

  const issuer = () => ({ issuer: 'https://id.example', keys: { kind: 'url', url } as const });
  const opened = (): IssuerKeys => openIssuerKeys(store, { onError: () => {}, now: () => now });
  const rows = async (): Promise<number> => (await store.table('issuerKeys', z.unknown()).list()).length;
  const stored = async (count: number): Promise<void> => {
    while ((await rows()) !== count) await delay(10);
  };

  it('survive a reload while the endpoint is down, and a rotation is still noticed', async () => {
    const keys = opened();
    const [first] = keys.sourcesFor([issuer()]);
    assert.equal(await has(first, 'k1'), true);
    endpoint.status = 503;
    const [again] = keys.sourcesFor([{ ...issuer() }]);
    assert.equal(await has(again, 'k1'), true);
    Object.assign(endpoint, { status: 200, kids: ['k2'] });
    const [fresh] = opened().sourcesFor([issuer()]);
    assert.equal(await has(fresh, 'k2'), true);
  });

  it('survive a restart while the endpoint is down, for a day and no longer', async () => {
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    await stored(1);
    endpoint.status = 503;
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    now += 23 * hourMs;
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    now += 2 * hourMs;
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), undefined);
    // A clock that was set back makes no old set a young one.
    now -= 100 * hourMs;
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), undefined);
  });

  it('that were removed are refused after a restart, as soon as the endpoint says so', async () => {
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    await stored(1);
    endpoint.kids = ['k2'];
    now += hourMs;
    const [source] = opened().sourcesFor([issuer()]);
    assert.equal(await has(source, 'k1'), false);
    assert.equal(await has(source, 'k2'), true);
  });

  it('of an issuer that is removed, or has another address, are dropped', async () => {
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    await stored(1);
    endpoint.status = 503;
    const moved = { ...issuer(), keys: { kind: 'url', url: new URL('?other', url) } as const };
    assert.equal(await has(opened().sourcesFor([moved])[0], 'k1'), undefined);
    await stored(0);
  });

  it('are not stored when they are too many, and damaged rows are no reason to fail', async () => {
    endpoint.padding = 'x'.repeat(200_000);
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    assert.equal(await rows(), 0);
    endpoint.padding = '';
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
    await stored(1);
    const [[key]] = (await store.table('issuerKeys', z.unknown()).list()) as [[string, unknown]];
    await store.table('issuerKeys', z.unknown()).put(key, 'damaged');
    assert.equal(await has(opened().sourcesFor([issuer()])[0], 'k1'), true);
  });

  it('in a file are read again at a reload, and those at hand stay when that fails', async () => {
    const path = join(folder, 'keys.json');
    const ofFile = { issuer: 'https://id.example', keys: { kind: 'file', file: path } as const };
    writeFileSync(path, await setOf(['k1']));
    const keys = opened();
    assert.equal(await has(keys.sourcesFor([ofFile])[0], 'k1'), true);
    rmSync(path);
    assert.equal(await has(keys.sourcesFor([ofFile])[0], 'k1'), true);
    writeFileSync(path, await setOf(['k2']));
    await delay(1100);
    assert.equal(await has(keys.sourcesFor([ofFile])[0], 'k1'), false);
  });
});
