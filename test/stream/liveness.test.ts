import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as passed } from 'node:timers/promises';
import { LivenessMonitor } from '../../stream/liveness.ts';

/** A vigil that writes down what it does. */
function watched(): { vigil: LivenessMonitor; events: string[]; until: (event: string) => Promise<void> } {
  const events: string[] = [];
  let told: (() => void) | undefined;
  const note = (event: string) => (): void => {
    events.push(event);
    told?.();
  };
  const vigil = new LivenessMonitor({
    ping: note('ask'),
    onUnresponsive: note('silence'),
    onRecovered: note('voice'),
    pingAfterMs: 10,
    responseTimeoutMs: 20,
  });
  const until = async (event: string): Promise<void> => {
    // Its own timers do not keep the process.
    const alive = setInterval(() => {}, 1000);
    while (!events.includes(event)) await new Promise<void>((resolve) => (told = resolve));
    clearInterval(alive);
  };
  return { vigil, events, until };
}

describe('a vigil', () => {
  it('asks who owes an answer, then tells of the silence, once, and of the voice after it', async () => {
    const { vigil, events, until } = watched();
    vigil.sent();
    vigil.sent();
    await until('silence');
    vigil.sent();
    vigil.ping();
    vigil.received();
    vigil.received();
    assert.deepEqual(events, ['ask', 'silence', 'voice']);
  });

  it('leaves a peer alone that owes nothing', async () => {
    const { vigil, events } = watched();
    vigil.sent();
    vigil.received();
    await passed(60);
    assert.deepEqual(events, []);
  });

  it('is content with an answer to its question', async () => {
    const { vigil, events, until } = watched();
    vigil.sent();
    await until('ask');
    vigil.received();
    await passed(60);
    assert.deepEqual(events, ['ask']);
  });

  it('reads first what came while this process stood still', async () => {
    const { vigil, events, until } = watched();
    vigil.ping();
    await until('ask');
    setImmediate(() => vigil.received());
    const standsUntil = performance.now() + 60;
    while (performance.now() < standsUntil);
    await passed(30);
    assert.deepEqual(events, ['ask']);
  });

  it('forgets everything about another connection', async () => {
    const { vigil, events } = watched();
    vigil.ping();
    vigil.reset();
    await passed(60);
    assert.deepEqual(events, ['ask']);
  });
});
