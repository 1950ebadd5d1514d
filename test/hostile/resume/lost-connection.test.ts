// SECURITY A6, rule 19: a tunnel without a connection ends with its time, its rules and its token, and belongs to one client.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import type { Policy } from '../../../server/policy/policy.ts';
import { generousLimits, startParts, startTarget } from '../../server/support/gateway-parts.ts';
import { openTunnel, rejoinTunnel, Wire } from '../support/relay-wire.ts';
import type { Known } from '../support/relay-wire.ts';
import { tokensOf, startWithEcho, openAndCut, turn, codeFrom } from '../support/lost-tunnel.ts';
import type { Tokens } from '../support/lost-tunnel.ts';

describe('a tunnel whose connection is lost', () => {
  it('is ended when the rules do not allow it any more, and its client is told so', async () => {
    let isAllowed = true;
    const policy: Policy = {
      decide(_principal, target) {
        if (!isAllowed) throw new TunnelError('TARGET_DENIED', 'not any more');
        return { target, address: target, rule: 'rule 1' };
      },
    };
    const { parts, known, end } = await openAndCut({ policy });
    isAllowed = false;
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.ok(!(answer instanceof Wire));
    assert.equal(`${answer.status} ${answer.code}`, '403 TARGET_DENIED');
    await parts.endedCount(2);
    const [tunnel, request] = ['REVOKED', 'TARGET_DENIED'].map((how) =>
      parts.ended.find(({ end }) => end === how),
    );
    assert.match(tunnel!.reason!, /rules/);
    assert.equal(request!.principal!.subject, 'alice');
    assert.equal(parts.relays.detachedCount, 0);
    isAllowed = true;
    const late = await rejoinTunnel(parts.port, known, { count: 2 });
    assert.equal(late instanceof Wire ? '' : late.code, 'TUNNEL_REVOKED');
    await end();
  });

  it('is ended when the network policy does not allow its address any more', async () => {
    let isAllowed = true;
    const asked: string[] = [];
    const { parts, known, end } = await openAndCut({
      evaluateAddress(address, port) {
        asked.push(`${address} ${port}`);
        return { allowed: isAllowed, why: 'not any more' };
      },
    });
    isAllowed = false;
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? '' : `${answer.status} ${answer.code}`, '403 ADDRESS_DENIED');
    await parts.endedCount(2);
    const { dialled } = parts.ended.find(({ end: how }) => how === 'REVOKED')!;
    assert.deepEqual(asked, [`${dialled!.host} ${dialled!.port}`]);
    await end();
  });

  for (const [reason, code] of [
    ['KILLED', 'TUNNEL_KILLED'],
    ['SESSION_EXPIRED', 'TUNNEL_EXPIRED'],
    ['REVOKED', 'TUNNEL_REVOKED'],
  ] as const)
    it(`and that is ended for ${reason} meanwhile says so to its owner, and to no other client`, async () => {
      const { parts, known, end } = await openAndCut({
        authenticator: tokensOf({ good: {}, bob: { subject: 'bob' } }),
      });
      parts.sessions.endWhere(() => true, reason, 'as the test says');
      await parts.endedCount(1);
      const codes = [];
      for (const token of ['good', 'bob', 'none']) {
        const answer = await rejoinTunnel(parts.port, known, { count: 1, token });
        codes.push(answer instanceof Wire ? 'accepted' : answer.code);
      }
      assert.deepEqual(codes, [code, 'TUNNEL_GONE', 'TOKEN_INVALID']);
      await end();
    });

  it('is not given back to a token that has expired meanwhile, and to a new one it is', async () => {
    const tokens: Tokens = { good: {} };
    const { parts, known, end } = await openAndCut({ authenticator: tokensOf(tokens) });
    tokens.good = 'expired';
    tokens.fresh = {};
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TOKEN_INVALID');
    assert.ok((await rejoinTunnel(parts.port, known, { count: 1, token: 'fresh' })) instanceof Wire);
    await end();
  });

  it('is not given back to a sign-in that was revoked', async () => {
    let isRevoked = false;
    const { parts, known, end } = await openAndCut({ revocations: { isRevoked: () => isRevoked } });
    isRevoked = true;
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TOKEN_INVALID');
    await end();
  });

  it('is ended when its client does not come back in time', async () => {
    const { parts, known, end } = await openAndCut({ relays: { keepMs: 20 } });
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'CLIENT_LOST');
    assert.match(parts.ended[0]!.reason ?? '', /did not resume it/);
    assert.equal(parts.relays.detachedCount, 0);
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TUNNEL_GONE');
    await end();
  });

  it('goes when all together keep too much, the one that has waited longest first, and its client learns why', async () => {
    const source = await startTarget((socket) => {
      socket.resume();
      socket.write(Buffer.alloc(300 * 1024));
    });
    const parts = await startParts({ relays: { windowBytes: 256 * 1024, totalBytes: 640 * 1024 } });
    const opened: Known[] = [];
    for (let count = 0; count < 3; count++) {
      const { wire, known } = await openTunnel(parts.port, source.port);
      opened.push(known);
      wire.drop();
      if (count < 2)
        while (parts.relays.detachedCount <= count || parts.relays.unackedBytes < 256 * 1024 * (count + 1))
          await turn();
    }
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'SHED');
    assert.ok(parts.relays.unackedBytes <= 640 * 1024);
    const codes = [];
    for (const known of opened) {
      const answer = await rejoinTunnel(parts.port, known, { count: 1 });
      codes.push(answer instanceof Wire ? 'accepted' : answer.code);
    }
    assert.deepEqual(codes, ['TUNNEL_SHED', 'accepted', 'accepted']);
    await parts.close();
    source.close();
    assert.equal(parts.relays.unackedBytes, 0);
  });

  it('can be resumed by a user who has all the tunnels that are allowed', async () => {
    const limits = { ...generousLimits, tunnels: 2, perAddress: 2, perSubject: 2 };
    const { parts, target, end } = await startWithEcho({ limits });
    const opened = [await openTunnel(parts.port, target), await openTunnel(parts.port, target)];
    const third = await codeFrom(parts, `connect?host=127.0.0.1&port=${target}`, {});
    assert.match(third, /LIMIT_/);
    for (const { wire } of opened) wire.drop();
    while (parts.relays.detachedCount < 2) await turn();
    for (const { known } of opened) {
      const wire = await rejoinTunnel(parts.port, known, { count: 1 });
      assert.ok(wire instanceof Wire, JSON.stringify(wire));
    }
    assert.match(await codeFrom(parts, `connect?host=127.0.0.1&port=${target}`, {}), /LIMIT_/);
    await end();
  });

  it('makes room for a new one of the same person when it has waited longest, and its client learns why', async () => {
    const limits = { ...generousLimits, perSubject: 2 };
    const { parts, target, end } = await startWithEcho({
      limits,
      authenticator: tokensOf({ good: {}, bob: { subject: 'bob' } }),
    });
    const others = await openTunnel(parts.port, target, { token: 'bob' });
    others.wire.drop();
    const opened: Known[] = [];
    for (let count = 0; count < 2; count++) {
      const { wire, known } = await openTunnel(parts.port, target);
      opened.push(known);
      wire.drop();
      while (parts.relays.detachedCount < count + 2) await turn();
    }
    const third = await openTunnel(parts.port, target);
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'DISPLACED');
    const codes = [];
    for (const known of opened) {
      const answer = await rejoinTunnel(parts.port, known, { count: 1 });
      codes.push(answer instanceof Wire ? 'accepted' : answer.code);
    }
    assert.deepEqual(codes, ['TUNNEL_DISPLACED', 'accepted']);
    third.wire.drop();
    assert.ok((await rejoinTunnel(parts.port, others.known, { count: 1, token: 'bob' })) instanceof Wire);
    await end();
  });

  it('comes back although its place was taken meanwhile', async () => {
    const limits = { ...generousLimits, tunnels: 2, perAddress: 2, perSubject: 2, perTarget: 2 };
    const { parts, target, end } = await startWithEcho({ limits });
    const lost = await openTunnel(parts.port, target);
    lost.wire.drop();
    while (parts.relays.detachedCount === 0) await turn();
    await openTunnel(parts.port, target);
    await openTunnel(parts.port, target);
    assert.match(await codeFrom(parts, `connect?host=127.0.0.1&port=${target}`, {}), /LIMIT_/);
    assert.ok((await rejoinTunnel(parts.port, lost.known, { count: 1 })) instanceof Wire);
    assert.equal(parts.ended.filter(({ end: how }) => how === 'DISPLACED').length, 0);
    await end();
  });

  it('waits less long when its target has closed, and its client can still fetch the end', async () => {
    const target = await startTarget((socket) => socket.resume().once('data', () => socket.end('the end')));
    const parts = await startParts({ relays: { endedKeepMs: 400 } });
    const [early, never] = [
      await openTunnel(parts.port, target.port),
      await openTunnel(parts.port, target.port),
    ];
    for (const { wire } of [early, never]) {
      wire.socket.send(Buffer.from('x'));
      wire.drop();
    }
    const wire = await rejoinTunnel(parts.port, early.known, { count: 1 });
    assert.ok(wire instanceof Wire);
    await wire.until('the end');
    await parts.endedCount(2);
    const lost = parts.ended.find(({ end: how }) => how === 'CLIENT_LOST');
    assert.equal(lost?.grant?.target.port, target.port);
    await parts.close();
    target.close();
  });

  it('is ended at once, without waiting for its client, when its target is lost', async () => {
    const sockets: { resetAndDestroy(): void }[] = [];
    const target = await startTarget((socket) => void sockets.push(socket.resume()));
    const parts = await startParts();
    const { wire, known } = await openTunnel(parts.port, target.port);
    wire.drop();
    while (parts.relays.detachedCount === 0) await turn();
    sockets[0]!.resetAndDestroy();
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'TARGET_LOST');
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TUNNEL_GONE');
    await parts.close();
    target.close();
  });
});

describe('two clients with the same tunnel', () => {
  it('are not mixed: the newest goes on, the other is cut off, whatever it still says', async () => {
    const heard: Buffer[] = [];
    const target = await startTarget((socket) =>
      socket.on('data', (chunk: Buffer) => void heard.push(chunk)),
    );
    const parts = await startParts();
    const { wire: first, known } = await openTunnel(parts.port, target.port);
    first.socket.send(Buffer.from('first.'));
    while (heard.length === 0) await turn();
    const second = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.ok(second instanceof Wire);
    // Both at once, from here on.
    for (let round = 0; round < 50; round++) {
      first.socket.send(Buffer.from('WRONG'), () => {});
      second.socket.send(Buffer.from('right'));
    }
    const { received } = await second.values('joined');
    assert.equal(received, '6');
    await first.closed();
    const right = 'right'.repeat(50);
    while (Buffer.concat(heard).length < 6 + right.length) await turn();
    const all = Buffer.concat(heard).toString();
    // What the first one said before the second had come is its own; nothing comes between the words of the second.
    assert.ok(all.endsWith(right) && !all.slice(0, -right.length).includes('right'), all.slice(0, 60));
    const third = await rejoinTunnel(parts.port, known, { count: 2 });
    assert.ok(third instanceof Wire);
    assert.equal(await second.closed(), 1006);
    await parts.close();
    target.close();
  });
});
