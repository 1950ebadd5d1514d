import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { SignJWT } from 'jose';
import { startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { dial, readHead, startEcho } from '../support/gateway-parts.ts';
import { upgradeHead } from '../support/peers.ts';
import { makeProof, newProofKey } from '../support/proof.ts';

const scratch = openScratch();
const issuer = 'https://id.example';
const signer = newProofKey('EdDSA');
const holder = newProofKey();
const requests = 10_000;
const proofs = 500;
const atOnce = 250;

/** Two gateway processes of one address, as a rolling restart or a web proxy with two backends has them. */
describe('two gateways with one store', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let nodes: readonly Gateway[];
  const publicUrl = 'https://gw.example/ssh/';

  before(async () => {
    echo = await startEcho();
    const jwksFile = scratch.path('issuer.jwks');
    writeFileSync(jwksFile, JSON.stringify({ keys: [{ ...signer.jwk, kid: 'k', alg: 'EdDSA' }] }));
    const settings = {
      publicUrl,
      store: { file: scratch.path('shared.db') },
      issuers: [{ issuer, audience: 'postern', jwksFile, algorithms: ['EdDSA'] }],
      limits: { perSubject: 5000, perAddress: 5000 },
      log: { level: 'error' },
    };
    const targets = { echo: `127.0.0.1:${echo.port}` };
    nodes = await Promise.all([1, 2].map(() => startGateway(scratch, { targets, settings })));
  });
  after(() => echo.close());

  it(`let in each of ${proofs} proofs that come ${requests} times exactly once between them (J6)`, async () => {
    const token = await new SignJWT({
      groups: ['dev'],
      jti: randomUUID(),
      cnf: { jkt: holder.thumbprint },
    })
      .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
      .setIssuer(issuer)
      .setAudience('postern')
      .setSubject('alice')
      .setIssuedAt()
      .setExpirationTime('10m')
      .sign(signer.privateKey);
    const path = '/ssh/tcp/echo/22/';
    const url = new URL(path, publicUrl).href;
    const heads = Array.from({ length: proofs }, () => {
      const proof = makeProof(holder, { method: 'GET', url, token, nowMs: Date.now() });
      return upgradeHead(path, 'connect-tcp', `Authorization: DPoP ${token}\r\nDPoP: ${proof}\r\n`);
    });
    const statuses: Record<string, number>[] = heads.map(() => ({}));
    let next = 0;
    const ask = async (): Promise<void> => {
      // Copies of one proof follow each other, to both gateways by turns.
      for (let at = next++; at < requests; at = next++) {
        const which = Math.floor(at / (requests / proofs));
        const socket = await dial(nodes[at % 2]!.port);
        socket.on('error', () => {});
        socket.write(heads[which]!);
        const status = (await readHead(socket)).slice(9, 12);
        socket.resetAndDestroy();
        statuses[which]![status] = (statuses[which]![status] ?? 0) + 1;
      }
    };
    const startedAt = performance.now();
    await Promise.all(Array.from({ length: atOnce }, ask));
    console.log(`${requests} requests in ${Math.round(performance.now() - startedAt)} ms`);
    const each = { 101: 1, 401: requests / proofs - 1 };
    assert.deepEqual(
      statuses,
      heads.map(() => each),
    );
  });
});
