import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { z } from 'zod';
import { capsuleCodes } from '../../../protocol/capsule.ts';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { capsuleStream } from '../../../stream/capsule-stream.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { run } from '../../e2e/support/process.ts';
import type { Outcome } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { codeOf, exchange, startEcho } from '../support/gateway-parts.ts';
import { rawUpgrade, upgradeHead } from '../support/peers.ts';
import { newProofKey } from '../support/proof.ts';

const scratch = openScratch();
const issuer = 'https://id.example';
const signer = newProofKey('EdDSA');

/** A token of another issuer, whose clock is ahead by so much. */
async function tokenOf(subject: string, aheadSeconds = 0): Promise<string> {
  const now = Math.floor(Date.now() / 1000) + aheadSeconds;
  return new SignJWT({ groups: ['dev'], jti: randomUUID() })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
    .setIssuer(issuer)
    .setAudience('postern')
    .setSubject(subject)
    .setIssuedAt(now)
    .setExpirationTime(now + 600)
    .sign(signer.privateKey);
}

const head = (token: string): string =>
  upgradeHead('/ssh/tcp/echo/22/', 'connect-tcp', `Authorization: Bearer ${token}\r\n`);

describe('a gateway whose store fails', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let gateway: Gateway;
  let file: string;
  const locks = new Set<ChildProcess>();

  before(async () => {
    echo = await startEcho();
    const jwksFile = scratch.path('issuer.jwks');
    writeFileSync(jwksFile, JSON.stringify({ keys: [{ ...signer.jwk, kid: 'k', alg: 'EdDSA' }] }));
    gateway = await startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo.port}` },
      settings: { issuers: [{ issuer, audience: 'postern', jwksFile, algorithms: ['EdDSA'] }] },
    });
    file = (JSON.parse(readFileSync(gateway.configFile, 'utf8')) as { store: { file: string } }).store.file;
  });
  afterEach(() => {
    for (const lock of locks) lock.kill('SIGKILL');
    locks.clear();
  });
  after(() => echo.close());

  /** The real shell of SQLite, which holds the lock for writes until it is killed. */
  async function lock(): Promise<() => void> {
    const shell = spawn('sqlite3', [file], { stdio: ['pipe', 'pipe', 'inherit'] });
    locks.add(shell);
    shell.stdin.write('BEGIN EXCLUSIVE;\n.print locked\n');
    await once(shell.stdout, 'data');
    return () => shell.kill('SIGKILL');
  }

  const command = (args: string[], input?: string): Promise<Outcome> =>
    run([...gatewayCommand, ...args, '--config', gateway.configFile], input === undefined ? {} : { input });
  const open = async (token: string): Promise<Duplex> =>
    capsuleStream(await rawUpgrade(gateway.port, head(token)), capsuleCodes('connect-tcp')!);
  const answer = async (token: string): Promise<unknown> => codeOf(await exchange(gateway.port, head(token)));
  const ready = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${gateway.adminPort}/readyz`)).text();

  it('refuses a token of a clock that is ahead right after its revocation, and says until when it holds', async () => {
    const token = await tokenOf('alice', 20);
    (await open(token)).destroy();
    const { code, stdout } = await command(['kill', '--subject', 'alice', '--revoke']);
    assert.equal(code, 0);
    assert.match(
      stdout.toString(),
      /^Revoked everything issued to alice until \d\d:\d\d:\d\d\. \d open sessions? ended\.\nTokens of other issuers.* until \d\d:\d\d:\d\d\.\n$/,
    );
    assert.equal(await answer(token), 'TOKEN_INVALID');
    assert.equal(await answer(await tokenOf('alice', 25)), 'TOKEN_INVALID');
    (await open(await tokenOf('bob', 20))).destroy();
    const json = JSON.parse(
      (await command(['kill', '--subject', 'alice', '--revoke', '--json'])).stdout.toString(),
    ) as {
      ended: number;
      revoked: { issuedUntil: string; otherIssuersUntil: string; keptUntil: string; stored: boolean };
    };
    const { issuedUntil, otherIssuersUntil, keptUntil, stored } = json.revoked;
    assert.deepEqual([json.ended, stored], [0, true]);
    assert.equal(Date.parse(otherIssuersUntil) - Date.parse(issuedUntil), 30_000);
    assert.ok(Date.parse(keptUntil) > Date.now());
  });

  it('goes on while a shell holds the lock: keystrokes, new tunnels, revocations that are written later', async () => {
    const tunnel = await open(await tokenOf('carol'));
    const token = await tokenOf('dave');
    const release = await lock();
    let slowest = 0;
    const typed = new AbortController();
    const typing = (async (): Promise<void> => {
      while (!typed.signal.aborted) {
        const startedAt = performance.now();
        tunnel.write('?');
        await once(tunnel, 'data');
        slowest = Math.max(slowest, performance.now() - startedAt);
        await delay(20);
      }
    })();
    const tickets = Array.from({ length: 6 }, () =>
      fetch(`http://127.0.0.1:${gateway.port}/ssh/api/tickets`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: '{}',
      }),
    );
    const killed = await command(['kill', '--subject', 'dave', '--revoke']);
    assert.equal(killed.code, 1);
    assert.match(killed.stdout.toString(), /^Revoked everything issued to dave/);
    assert.match(killed.stderr.toString(), /not stored yet.*\n.*tries again until it is written/);
    assert.equal(await answer(token), 'TOKEN_INVALID');
    (await open(await tokenOf('erin'))).destroy();
    const statuses = (await Promise.all(tickets)).map(({ status }) => status);
    assert.deepEqual([...new Set(statuses)], [503]);
    assert.match(await ready(), /the store cannot be written/);
    typed.abort();
    await typing;
    tunnel.destroy();
    // Each write on the event loop would have taken five seconds.
    assert.ok(slowest < 3000, `${slowest} ms`);
    release();
    while (!(await ready()).startsWith('ready')) await delay(50);
    const store = await openSqliteStore(file);
    const list = await openRevocations(store);
    const until = list.revokedUntil(issuer, 'dave');
    list.close();
    await store.close();
    assert.ok(until !== undefined);
  });

  it('ends the sessions of an account that cannot be disabled now, and says so', async () => {
    assert.equal((await command(['user', 'add', 'frank', '--password-stdin'], 'correct horse\n')).code, 0);
    const release = await lock();
    const { code, stderr } = await command(['user', 'disable', 'frank']);
    release();
    assert.equal(code, 1);
    assert.match(
      stderr.toString(),
      /^postern-gateway: frank is not disabled: .*locked.*has ended 0 of its sessions/,
    );
    assert.doesNotMatch(stderr.toString(), /\n\s+at /);
  });

  it('names a damaged account, lists the others, and exits 1', async () => {
    assert.equal((await command(['user', 'add', 'grace', '--password-stdin'], 'correct horse\n')).code, 0);
    const store = await openSqliteStore(file);
    await store.table('accounts', z.unknown()).put('hugo', { password: 1 });
    await store.close();
    const shell = spawn('sqlite3', [
      file,
      "INSERT INTO entries (name, key, value) VALUES ('accounts', 'ida', '{')",
    ]);
    assert.deepEqual(await once(shell, 'exit'), [0, null]);
    const { code, stdout, stderr } = await command(['user', 'list']);
    assert.equal(code, 1);
    assert.match(stdout.toString(), /^grace/m);
    assert.match(stderr.toString(), /hugo.*accounts.*password.*\n.*ida.*accounts.*the whole value/);
    assert.doesNotMatch(stderr.toString(), /\n\s+at /);
    for (const name of ['hugo', 'ida']) assert.equal((await command(['user', 'disable', name])).code, 1);
  });
});
