import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Secret } from '../../../protocol/secret.ts';
import type { Principal } from '../../../server/auth/authenticator.ts';
import { authenticatorChain } from '../../../server/auth/authenticator-chain.ts';
import { ticketAuthenticator } from '../../../server/auth/ticket-authenticator.ts';
import { createTicketStore } from '../../../server/auth/tickets.ts';
import type { Tickets } from '../../../server/auth/tickets.ts';
import { readCredentials } from '../../../server/entry/credentials.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import type { Store } from '../../../server/store/store.ts';
import { loopbackContext, oneToken } from '../support/gateway-parts.ts';

const minuteMs = 60_000;
const alice: Principal = {
  issuer: 'https://id.example',
  subject: 'alice',
  groups: new Set(['dev', 'ops']),
  tokenId: 't1',
  signInId: 's1',
  keyThumbprint: 'k',
  issuedAt: new Date(500),
  expiresAt: new Date(10 * minuteMs),
};
const request = { ttlMs: 5 * minuteMs, uses: 1 };
const refusal = { name: 'InvalidTokenError' };

describe('tickets', () => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-tickets-'));
  const file = join(folder, 'postern.db');
  let now = 1000;
  let store: Store;
  let tickets: Tickets;
  before(async () => {
    store = await openSqliteStore(file, { now: () => now });
    tickets = createTicketStore(store, { now: () => now });
  });
  after(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  it('stand for who asked for them', async () => {
    const { ticket, expiresAt } = await tickets.issue(alice, request);
    assert.match(ticket, /^pt_[A-Za-z0-9_-]{43}$/);
    assert.ok(ticket.length <= 64);
    assert.deepEqual(await tickets.redeem(ticket), { ...alice, expiresAt });
  });

  it('are good as often as they say, and no more, all at once', async () => {
    for (const uses of [1, 3]) {
      const { ticket } = await tickets.issue(alice, { ...request, uses });
      const settled = await Promise.allSettled(Array.from({ length: 10 }, () => tickets.redeem(ticket)));
      assert.equal(settled.filter(({ status }) => status === 'fulfilled').length, uses);
    }
  });

  it('expire, however much of them is left', async () => {
    const { ticket } = await tickets.issue(alice, { ...request, uses: 10 });
    await tickets.redeem(ticket);
    now += 5 * minuteMs;
    await assert.rejects(tickets.redeem(ticket), refusal);
  });

  it('outlive their token only where a sign-in can be ended', async () => {
    now = 9 * minuteMs;
    const { signInId: _, ...bare } = alice;
    assert.deepEqual((await tickets.issue(bare, request)).expiresAt, alice.expiresAt);
    assert.deepEqual((await tickets.issue(alice, request)).expiresAt, new Date(14 * minuteMs));
  });

  const narrowing: [
    token: string[] | undefined,
    asked: string[] | undefined,
    is: string[] | undefined | 'denied',
  ][] = [
    [undefined, undefined, undefined],
    [undefined, ['box'], ['box:22']],
    [['box'], undefined, ['box']],
    [['box', 'db'], ['box'], ['box:22']],
    [['*.dev.example'], ['a.dev.example'], ['a.dev.example:22']],
    [['*.dev.example'], ['*.a.dev.example:*'], ['*.a.dev.example:22']],
    [['*.dev.example:*'], ['*:2222'], ['*.dev.example:2222']],
    [['box'], ['*:*'], ['box:22']],
    [['*.dev.example'], ['10.0.0.5'], 'denied'],
    [['box'], ['db'], 'denied'],
    [['box'], ['box:2222'], 'denied'],
    [['*.dev.example'], ['dev.example'], 'denied'],
    [['*.dev.example'], ['xdev.example'], 'denied'],
    [[], ['box'], 'denied'],
    [[], undefined, []],
  ];
  for (const [own, asked, is] of narrowing) {
    it(`of a token for ${JSON.stringify(own)}, asked for ${JSON.stringify(asked)}: ${JSON.stringify(is)}`, async () => {
      const principal = { ...alice, ...(own && { targets: own }) };
      const issuing = tickets.issue(principal, { ...request, targets: asked });
      if (is === 'denied') return assert.rejects(issuing, { code: 'TARGET_DENIED' });
      assert.deepEqual((await tickets.redeem((await issuing).ticket)).targets, is);
    });
  }

  it('are nowhere in the store', async () => {
    const { ticket } = await tickets.issue(alice, request);
    for (const name of [file, `${file}-wal`]) assert.equal(readFileSync(name).includes(ticket), false);
  });

  for (const text of [
    'pt_',
    'pt_x',
    `pt_${'A'.repeat(43)}`,
    `pt_${'A'.repeat(44)}`,
    `pt_${'A'.repeat(42)}=`,
    `PT_${'A'.repeat(43)}`,
  ]) {
    it(`${text} is none`, async () => assert.rejects(tickets.redeem(text), refusal));
  }

  it('come where tokens come, but not with a proof', async () => {
    const authenticator = authenticatorChain([ticketAuthenticator(tickets), oneToken]);
    const ask = async (text: string, more = {}): Promise<string> => {
      const credentials = readCredentials(`Bearer ${text}`).map((each) => ({ ...each, ...more }));
      return (await authenticator.authenticate(credentials, loopbackContext)).subject;
    };
    assert.equal(await ask('good'), 'alice');
    await assert.rejects(ask('pt_wrong'), { code: 'TOKEN_INVALID' });
    await assert.rejects(authenticator.authenticate([], loopbackContext), { code: 'TOKEN_MISSING' });
    const { ticket } = await tickets.issue({ ...alice, subject: 'bob' }, request);
    const proof = { jwt: new Secret('x'), method: 'GET', path: '/' };
    await assert.rejects(ask(ticket, { proof }), { code: 'TOKEN_INVALID' });
    assert.equal(await ask(ticket), 'bob');
    await assert.rejects(ask(ticket), { code: 'TOKEN_INVALID' });
  });
});
