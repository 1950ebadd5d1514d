import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Reconnector } from '../../../client/resume/reconnector.ts';
import type { ResumeResult } from '../../../client/resume/resume-request.ts';
import { relayV1 } from '../../../protocol/relay-v1.ts';
import { MessageCarrier } from '../../../stream/carrier.ts';
import { eventually } from '../../e2e/support/process.ts';

/** A carrier whose connection has ended before it is attached, or has not. */
class HeldCarrier extends MessageCarrier {
  readonly codec = relayV1;
  readonly waitingBytes = 0;

  constructor(hasEnded: boolean) {
    super();
    if (hasEnded) this.lost({ how: 'reset' });
  }

  send(): void {}
  pause(): void {}
  resume(): void {}
  end(): void {}
  protected finish(): void {}
  protected release(): void {}
}

function result(hasEnded: boolean): ResumeResult {
  return { carrier: new HeldCarrier(hasEnded), resumed: { kind: 'joined', received: 0, from: 0 } };
}

describe('a carrier that ends while it is being attached', () => {
  for (const [what, firstHasEnded] of [
    ['the first one', true],
    ['one of a resume', false],
  ] as const) {
    it(`leaves the tunnel reconnecting, as ${what}`, async (t) => {
      const states: string[] = [];
      const told: string[] = [];
      const ended = [true, true, false];
      const reconnector = new Reconnector({
        windowBytes: 1024,
        keepMs: 60_000,
        warn() {},
        watch: {
          opened: () => told.push('opened'),
          lost: () => told.push('lost'),
          resumed: () => told.push('resumed'),
          ended() {},
        },
        async resume() {
          states.push(reconnector.state);
          return result(ended.shift()!);
        },
      });
      const first = new HeldCarrier(firstHasEnded);
      const tunnel = reconnector.start(first);
      t.after(() => tunnel.destroy());
      if (!firstHasEnded) first['lost']({ how: 'reset' });
      assert.equal(reconnector.state, 'reconnecting');
      await eventually(() => ended.length === 0 && reconnector.state === 'connected', 'the third carrier');
      assert.deepEqual(states, ['reconnecting', 'reconnecting', 'reconnecting']);
      assert.equal(told.filter((event) => event === 'resumed').length, 1);
      assert.equal(told.at(-1), 'resumed');
    });
  }
});
