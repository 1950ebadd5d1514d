// SECURITY rule 19: a carrier that breaks the rules of the relay ends; the bytes are never wrong.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startParts, startTarget } from '../../server/support/gateway-parts.ts';
import { openTunnel, rejoinTunnel, Wire } from '../support/relay-wire.ts';
import { startWithEcho, turn } from '../support/lost-tunnel.ts';

describe('a carrier that breaks the rules', () => {
  const messages: Readonly<Record<string, readonly [message: string | Buffer, closeCode: number]>> = {
    'an acknowledgement beyond what was sent': ['ack at=1', 4005],
    'an acknowledgement at 2^53 - 1': ['ack at=9007199254740991', 4005],
    'an acknowledgement at 2^53': ['ack at=9007199254740992', 4008],
    'an acknowledgement at 2^64': ['ack at=18446744073709551616', 4008],
    'a negative acknowledgement': ['ack at=-1', 4008],
    'an acknowledgement in words': ['ack at=one', 4008],
    'an end elsewhere': ['end at=1', 4013],
    'an empty message': [Buffer.alloc(0), 4013],
    'a greeting': ['joined received=0 from=0', 4008],
    'another greeting': ['opened sid=a secret=b window=1 keep=1', 4008],
    'text with a NUL': ['ack at=0\0', 4008],
    'text beyond ASCII': ['ack at=0é', 4008],
    'a long text': [`nothing a=${'x'.repeat(2000)}`, 4008],
    'one byte more than a message may hold': [Buffer.alloc(64 * 1024 + 1), 4013],
  };
  for (const [what, [message, closeCode]] of Object.entries(messages))
    it(`by ${what} is closed with ${closeCode}, and its tunnel is over`, async () => {
      const { parts, target, end } = await startWithEcho();
      const { wire, known } = await openTunnel(parts.port, target);
      wire.socket.send(message);
      assert.equal(await wire.closed(), closeCode);
      await parts.endedCount(1);
      assert.equal(parts.ended[0]!.end, 'CLIENT_LOST');
      assert.ok(parts.ended[0]!.reason, 'the audit knows why');
      const answer = await rejoinTunnel(parts.port, known, { count: 1 });
      assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TUNNEL_GONE');
      await end();
    });

  it('by more than the window holds is closed with 4013', async () => {
    const deaf = await startTarget((socket) => void socket.pause());
    const parts = await startParts({ relays: { windowBytes: 64 * 1024 } });
    const { wire } = await openTunnel(parts.port, deaf.port);
    const bytes = Buffer.alloc(64 * 1024);
    // The kernel takes some megabytes in place of the target.
    for (let sent = 0; sent < 1000 && wire.closeCode === undefined; sent++) {
      wire.socket.send(bytes, () => {});
      await turn();
    }
    assert.equal(await wire.closed(), 4013);
    await parts.close();
    deaf.close();
  });
});
