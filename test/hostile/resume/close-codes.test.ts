// SECURITY: what a client says when it closes. It counts at once, also when the client then leaves its connection open,
// and it is never taken for what the gateway itself says.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { reasonCapsule } from '../../../protocol/capsule.ts';
import { endReasons } from '../../../protocol/end-reason.ts';
import type { EndReason } from '../../../protocol/end-reason.ts';
import { isTunnelErrorCode } from '../../../protocol/errors.ts';
import { relayCloseCodes } from '../../../protocol/relay-frame.ts';
import { relayHead, upgradeHead, webSocketFields } from '../../server/support/peers.ts';
import { startWithEcho } from '../support/lost-tunnel.ts';
import { rejoinTunnel, Wire } from '../support/relay-wire.ts';

const reasons = Object.keys(endReasons) as EndReason[];
const authorization = 'Authorization: Bearer good\r\n';

/** A client that never closes its connection, and what has arrived of the gateway. */
class Stubborn {
  readonly socket: Socket;
  #received = Buffer.alloc(0);

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.socket.emit('more');
    });
  }

  /** Everything so far, once it contains this. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.#received.toString('latin1'));
      if (found) return found;
      await once(this.socket, 'more');
    }
  }
}

/** A Close frame of a client, masked with zeros. */
function closeFrame(code: number): Buffer {
  return Buffer.from([0x88, 0x82, 0, 0, 0, 0, code >> 8, code & 0xff]);
}

/** The gateway's answer to it. */
function closeAnswer(code: number): RegExp {
  return new RegExp(
    `\x88\x02${String.fromCharCode(code >> 8)}\\x${(code & 0xff).toString(16).padStart(2, '0')}`,
    's',
  );
}

function assertEndedByClient(end = ''): void {
  assert.ok(end !== '' && !isTunnelErrorCode(end), end);
}

describe('a Close of a relay client, whose connection stays open,', () => {
  const codes = [
    4410,
    ...Object.values(relayCloseCodes),
    ...reasons.map((reason) => endReasons[reason].closeCode),
    4999,
  ];
  for (const code of codes) {
    const isFinal = code !== 4999;
    it(`with ${code} ${isFinal ? 'ends the tunnel at once, by the client' : 'is the loss of its connection'}`, async () => {
      const { parts, target, end } = await startWithEcho();
      const client = new Stubborn(parts.port);
      client.socket.write(relayHead(`127.0.0.1:${target}`, authorization));
      const [, sid, secret] = await client.until(/opened sid=(\S+) secret=(\S+) /);
      client.socket.write(closeFrame(code));
      await client.until(closeAnswer(code));
      const answer = await rejoinTunnel(parts.port, { sid: sid!, secret: secret! }, { count: 1 });
      if (isFinal) {
        assert.deepEqual(answer instanceof Wire ? 'accepted' : [answer.status, answer.code], [
          410,
          'TUNNEL_GONE',
        ]);
        await parts.endedCount(1);
        assert.equal(parts.ended[0]!.end, 'CLIENT_LOST');
      } else {
        assert.ok(answer instanceof Wire);
        answer.drop();
      }
      client.socket.destroy();
      await end();
    });
  }
});

describe('a client cannot say that the gateway ended its tunnel', () => {
  for (const reason of reasons) {
    it(`by a Close with the code of ${reason}, by websocket`, async () => {
      const { parts, target, end } = await startWithEcho();
      const client = new Stubborn(parts.port);
      const fields = `${webSocketFields}Sec-WebSocket-Protocol: postern.tcp.v1\r\n${authorization}`;
      client.socket.write(upgradeHead(`/ssh/tcp/127.0.0.1/${target}/`, 'websocket', fields));
      await client.until(/^HTTP\/1\.1 101 [^]*\r\n\r\n/);
      client.socket.write(closeFrame(endReasons[reason].closeCode));
      await parts.endedCount(1);
      assertEndedByClient(parts.ended[0]!.end);
      client.socket.destroy();
      await end();
    });

    it(`by the capsule of ${reason}, by connect-tcp`, async () => {
      const { parts, target, end } = await startWithEcho();
      const client = new Stubborn(parts.port);
      client.socket.write(upgradeHead(`/ssh/tcp/127.0.0.1/${target}/`, 'connect-tcp', authorization));
      await client.until(/^HTTP\/1\.1 101 [^]*\r\n\r\n/);
      client.socket.end(reasonCapsule(reason));
      await parts.endedCount(1);
      assertEndedByClient(parts.ended[0]!.end);
      client.socket.destroy();
      await end();
    });
  }
});
