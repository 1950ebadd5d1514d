// SECURITY rule 19: what a peer can make the gateway keep is bounded, whatever it sends, and however often it comes back.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import type { Resume, SessionRecord } from '../../../server/session/sessions.ts';
import {
  dial,
  readHead,
  startParts,
  startTarget,
  tokenAuthenticator,
} from '../../server/support/gateway-parts.ts';
import { upgradeHead, webSocketFields } from '../../server/support/peers.ts';
import { openTunnel, rejoinFields, rejoinTunnel, v1, v4, Wire } from '../support/relay-wire.ts';
import {
  tokensOf,
  startWithEcho,
  openAndCut,
  turn,
  assertWhole,
  resources,
  memory,
} from '../support/lost-tunnel.ts';

describe('a peer with all the time in the world', () => {
  it('gets no answer that it does not read, and no memory, for floods of words', async () => {
    const { parts, target, end } = await startWithEcho();
    const { wire } = await openTunnel(parts.port, target);
    const before = memory();
    wire.socket.pause();
    for (let round = 0; round < 100; round++) {
      for (let count = 0; count < 500; count++)
        for (const text of ['ping id=1', 'pong id=1', 'ack at=0', 'hello', 'move']) wire.socket.send(text);
      while (wire.socket.bufferedAmount > 0) await turn();
    }
    assert.ok(memory() - before < 64 * 1024 * 1024);
    wire.socket.resume();
    wire.socket.send(Buffer.from('alive'));
    await wire.until('alive');
    await end();
  });

  it('costs its window and no more when it never acknowledges, 200 times', async () => {
    const source = await startTarget((socket) => {
      const chunk = Buffer.alloc(64 * 1024);
      const more = (): void => {
        while (socket.write(chunk));
      };
      socket.on('drain', more);
      socket.resume();
      more();
    });
    const windowBytes = 128 * 1024;
    const parts = await startParts({ relays: { windowBytes, totalBytes: 200 * windowBytes } });
    const wires: Wire[] = [];
    for (let count = 0; count < 200; count++) wires.push((await openTunnel(parts.port, source.port)).wire);
    // The last message of a window does not always fit into it.
    const isFull = ({ bytes }: Wire, windows: number): boolean =>
      bytes.length > windows * windowBytes - 64 * 1024;
    while (!wires.every((wire) => isFull(wire, 1))) await turn();
    for (const { bytes } of wires) assert.ok(bytes.length <= windowBytes, `${bytes.length}`);
    // One read of the target can exceed the window.
    assert.ok(parts.relays.unackedBytes <= 200 * (windowBytes + 64 * 1024), `${parts.relays.unackedBytes}`);
    // One that acknowledges what it has not read gets as much again, and no more.
    const one = wires[0]!;
    const acknowledged = one.bytes.length;
    one.socket.send(`ack at=${acknowledged}`);
    while (one.bytes.length <= acknowledged + windowBytes - 64 * 1024) await turn();
    assert.ok(one.bytes.length <= acknowledged + windowBytes);
    await parts.close();
    source.close();
    assert.equal(parts.relays.unackedBytes, 0);
  });

  it('of relay v4, and talks and listens at once, is not stuck at a target that answers all it gets', async () => {
    const { parts, target, end } = await startWithEcho();
    const wire = await Wire.open(parts.port, `connect?host=127.0.0.1&port=${target}`, { subprotocols: [v4] });
    assert.ok(wire instanceof Wire);
    const { socket } = wire;
    const counts = { received: 0, acknowledged: 0 };
    socket.on('message', (message: Buffer) => {
      if (message.readUInt16BE(0) !== 4) return;
      counts.received += message.length - 6;
      if (counts.received - counts.acknowledged <= 32 * 1024) return;
      counts.acknowledged = counts.received;
      const ack = Buffer.from('00070000000000000000', 'hex');
      ack.writeBigUInt64BE(BigInt(counts.received), 2);
      socket.send(ack);
    });
    // Its acknowledgements lie behind its data, as in the client of Google.
    const data = Buffer.concat([Buffer.from('000400004000', 'hex'), Buffer.alloc(16_384)]);
    const total = 48 * 1024 * 1024;
    for (let sent = 0; sent < total; sent += 16_384) {
      socket.send(data);
      while (socket.bufferedAmount > 80_000) await turn();
    }
    while (counts.received < total) await turn();
    assert.equal(counts.received, total);
    wire.drop();
    await end();
  });

  it('can come back a thousand times in a row and leaves nothing behind', async () => {
    const warnings: Error[] = [];
    const warn = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warn);
    const resumes: Resume[] = [];
    const observer = {
      ended(_record: SessionRecord): void {},
      resumed: (_record: SessionRecord, resume: Resume): void => void resumes.push(resume),
    };
    const { parts, target, end } = await startWithEcho({ observers: [observer] });
    const { wire: first, known } = await openTunnel(parts.port, target);
    let last = first;
    let early = 0;
    for (let count = 1; count <= 1000; count++) {
      const received = last.bytes.length;
      const wire = await rejoinTunnel(parts.port, known, { count, ack: 0 });
      assert.ok(wire instanceof Wire, JSON.stringify(wire));
      await wire.values('joined');
      assert.ok(received >= 0);
      last = wire;
      if (count === 100) early = resources();
    }
    last.socket.send(Buffer.from('the last'));
    await last.until('the last');
    assert.equal(resumes.length, 1000);
    assert.ok(resources() < early + 20, `${early} resources, then ${resources()}`);
    assert.equal(parts.sessions.count, 1);
    assert.deepEqual(warnings, []);
    process.off('warning', warn);
    await end();
  });
});

describe('a connection that breaks while its client comes back', () => {
  const rounds = process.env.POSTERN_LONG ? 1000 : 10;
  /** How far the request gets before the reset. */
  const stages = [
    'in the head',
    'after the head',
    'while the token is checked',
    'with the 101',
    'after the greeting',
  ];
  for (const stage of stages)
    for (const how of ['reset', 'end'] as const)
      it(`${stage}, by ${how}: the tunnel waits on, and goes on (${rounds} times)`, async () => {
        const checking = { isSlow: false, started: Promise.withResolvers<void>() };
        const authenticator = tokensOf({ good: {} });
        const cut = await openAndCut({
          authenticator: tokenAuthenticator(async (credentials, context) => {
            if (checking.isSlow) {
              checking.started.resolve();
              await new Promise((resolve) => setTimeout(resolve, 5));
            }
            return authenticator.authenticate(credentials, context);
          }),
        });
        const { parts, known } = cut;
        for (let round = 1; round <= rounds; round++) {
          checking.isSlow = stage === 'while the token is checked';
          checking.started = Promise.withResolvers<void>();
          const proof = rejoinFields(known, { count: round })['postern-rejoin'];
          const head = upgradeHead(
            `/ssh/v4/reconnect?sid=${known.sid}&ack=0`,
            'websocket',
            `${webSocketFields}Authorization: Bearer good\r\nSec-WebSocket-Protocol: ${v1}\r\nPostern-Rejoin: ${proof}\r\n`,
          );
          const socket = await dial(parts.port);
          socket.on('error', () => {});
          socket.write(stage === 'in the head' ? head.slice(0, 60) : head);
          if (stage === 'while the token is checked') await checking.started.promise;
          if (stage === 'with the 101') await once(socket, 'readable');
          if (stage === 'after the greeting') {
            await readHead(socket);
            while (!/joined/.test((socket.read() as Buffer | null)?.toString('latin1') ?? ''))
              await once(socket, 'readable');
          }
          if (how === 'reset') socket.resetAndDestroy();
          else socket.destroy();
        }
        checking.isSlow = false;
        while (parts.sessions.count > 1 || parts.relays.detachedCount === 0) await turn();
        await assertWhole(cut, rounds + 1);
        await cut.end();
      });
});
