import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { output } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { codeOf, exchange, startEcho } from '../support/gateway-parts.ts';
import { rawUpgrade, upgradeHead } from '../support/peers.ts';
import { makeProof, newProofKey } from '../support/proof.ts';
import type { ProofKey } from '../support/proof.ts';

const scratch = openScratch();
const issuer = 'https://id.example';
const signer = newProofKey('EdDSA');
/** Over both gateways; the second half of them on the one that is not asked. */
const many = process.env.POSTERN_LONG ? 2000 : 200;
const publicUrl = 'https://gw.example/ssh/';

/** Who has the tunnels, and by what they can be told from others. */
interface Holder {
  readonly subject: string;
  readonly tokenId: string;
  readonly target: string;
  readonly key?: ProofKey;
}

/** When the other side has ended it or broken it off. */
async function over(socket: Socket): Promise<number> {
  socket.resume();
  await Promise.race([once(socket, 'end'), once(socket, 'close')]);
  socket.destroy();
  return performance.now();
}

async function command(node: Gateway, ...args: string[]): Promise<string> {
  return (await output([...gatewayCommand, ...args, '--config', node.configFile])).toString();
}

describe('many tunnels through two gateways with one store', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let nodes: readonly Gateway[];

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
    const address = `127.0.0.1:${echo.port}`;
    const targets = { echo: address, other: address };
    nodes = await Promise.all([1, 2].map(() => startGateway(scratch, { targets, settings })));
  });
  after(() => echo.close());

  async function tokenOf({ subject, tokenId, key }: Holder): Promise<string> {
    const claims = { groups: ['dev'], jti: tokenId, ...(key && { cnf: { jkt: key.thumbprint } }) };
    return new SignJWT(claims)
      .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
      .setIssuer(issuer)
      .setAudience('postern')
      .setSubject(subject)
      .setIssuedAt()
      .setExpirationTime('10m')
      .sign(signer.privateKey);
  }

  function headOf({ target, key }: Holder, token: string): string {
    const path = `/ssh/tcp/${target}/22/`;
    if (!key) return upgradeHead(path, 'connect-tcp', `Authorization: Bearer ${token}\r\n`);
    const url = new URL(path, publicUrl).href;
    const proof = makeProof(key, { method: 'GET', url, token, nowMs: Date.now() });
    return upgradeHead(path, 'connect-tcp', `Authorization: DPoP ${token}\r\nDPoP: ${proof}\r\n`);
  }

  /** Half of `count` on each gateway. */
  async function open(holder: Holder, token: string, count: number): Promise<readonly Socket[]> {
    const tunnels: Socket[] = [];
    let next = 0;
    const openSome = async (): Promise<void> => {
      for (let at = next++; at < count; at = next++) {
        const socket = await rawUpgrade(nodes[at % 2]!.port, headOf(holder, token));
        socket.on('error', () => {});
        tunnels.push(socket);
      }
    };
    await Promise.all(Array.from({ length: 50 }, openSome));
    return tunnels;
  }

  const both = async (...args: string[]): Promise<void> => {
    await Promise.all(nodes.map((node) => command(node, 'kill', ...args)));
  };
  const here = async (...args: string[]): Promise<void> => void (await command(nodes[0]!, 'kill', ...args));

  async function killEach(holder: Holder, reason: string): Promise<void> {
    await Promise.all(
      nodes.map(async (node) => {
        const shown = JSON.parse(await command(node, 'sessions', '--json')) as Record<string, string>[];
        const ids = shown.filter(({ subject }) => subject === holder.subject).map(({ id }) => id!);
        await command(node, 'kill', ...ids, '--reason', reason);
      }),
    );
  }

  const key = newProofKey();
  /** What is revoked is revoked on one gateway; a kill without it is for the sessions of the gateway that is asked. */
  const ways: readonly {
    readonly what: string;
    readonly holder: Partial<Holder>;
    readonly end: (holder: Holder, reason: string) => Promise<void>;
    /** Whether what they were opened with is good no more. */
    readonly revokes: boolean;
  }[] = [
    {
      what: 'a token',
      holder: {},
      end: ({ tokenId }, reason) => here('--token', tokenId, '--reason', reason),
      revokes: true,
    },
    {
      what: 'a subject',
      holder: {},
      end: ({ subject }, reason) => here('--subject', subject, '--revoke', '--reason', reason),
      revokes: true,
    },
    {
      what: 'a key',
      holder: { key },
      end: (_, reason) => here('--key', key.thumbprint, '--reason', reason),
      revokes: true,
    },
    {
      what: 'a target',
      holder: { target: 'other' },
      end: (_, reason) => both('--target', 'other', '--reason', reason),
      revokes: false,
    },
    { what: 'their sessions', holder: {}, end: killEach, revokes: false },
  ];

  for (const { what, holder: of, end, revokes } of ways) {
    it(`${many} of them end with ${what}, and no other (K1)`, async () => {
      const reason = `a test of ${what}`;
      const holder: Holder = { subject: `of ${what}`, tokenId: randomUUID(), target: 'echo', ...of };
      const bystander: Holder = { subject: 'bystander', tokenId: randomUUID(), target: 'echo' };
      const token = await tokenOf(holder);
      const tunnels = await open(holder, token, many);
      const others = await open(bystander, await tokenOf(bystander), 2);
      const ends = Promise.all(tunnels.map(over));
      // The command takes a while to start; the first tunnel that ends says when it was heard.
      await end(holder, reason);
      const times = (await ends).toSorted((a, b) => a - b);
      const lastMs = times.at(-1)! - times[0]!;
      console.log(`${what}: the last of ${many} ended ${Math.round(lastMs)} ms after the first`);
      assert.ok(lastMs < 5000, `${lastMs} ms`);
      for (const other of others) {
        assert.equal(other.destroyed || other.readableEnded, false);
        other.destroy();
      }
      for (const { auditFile } of nodes) {
        const recorded = (): number => {
          const lines = readFileSync(auditFile, 'utf8').trim().split('\n');
          return lines
            .map((line) => JSON.parse(line) as Record<string, unknown>)
            .filter(({ event, subject }) => event === 'end' && subject === holder.subject)
            .filter(
              ({ cause, reason: why }) => ['REVOKED', 'KILLED'].includes(String(cause)) && why === reason,
            ).length;
        };
        while (recorded() < many / 2) await delay(20);
      }
      for (const { port } of nodes) {
        if (revokes) assert.equal(codeOf(await exchange(port, headOf(holder, token))), 'TOKEN_INVALID');
        else (await rawUpgrade(port, headOf(holder, token))).destroy();
      }
    });
  }
});
