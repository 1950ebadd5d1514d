import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LivenessMonitor } from '../../stream/liveness.ts';

/** A monitor, and a record of what it does. */
function watched(): { monitor: LivenessMonitor; events: string[]; until: (event: string) => Promise<void> } {
  const events: string[] = [];
  let onEvent: (() => void) | undefined;
  const note = (event: string) => (): void => {
    events.push(event);
    onEvent?.();
  };
  const monitor = new LivenessMonitor({
    ping: note('ping'),
    onUnresponsive: note('unresponsive'),
    onRecovered: note('recovered'),
    pingAfterMs: 10,
    responseTimeoutMs: 20,
  });
  const until = async (event: string): Promise<void> => {
    // Its own timers do not keep the process.
    const alive = setInterval(() => {}, 1000);
    while (!events.includes(event)) await new Promise<void>((resolve) => (onEvent = resolve));
    clearInterval(alive);
  };
  return { monitor, events, until };
}

describe('LivenessMonitor', () => {
  it('pings a peer that owes an answer, then reports that it is unresponsive, once, and that it has recovered', async () => {
    const { monitor, events, until } = watched();
    monitor.sent();
    monitor.sent();
    await until('unresponsive');
    monitor.sent();
    monitor.ping();
    monitor.received();
    monitor.received();
    assert.deepEqual(events, ['ping', 'unresponsive', 'recovered']);
  });

  it('leaves a peer alone that owes nothing', async () => {
    const { monitor, events } = watched();
    monitor.sent();
    monitor.received();
    await delay(60);
    assert.deepEqual(events, []);
  });

  it('is content with an answer to its question', async () => {
    const { monitor, events, until } = watched();
    monitor.sent();
    await until('ping');
    monitor.received();
    await delay(60);
    assert.deepEqual(events, ['ping']);
  });

  it('reads first what came while this process stood still', async () => {
    const { monitor, events, until } = watched();
    monitor.ping();
    await until('ping');
    setImmediate(() => monitor.received());
    const standsUntil = performance.now() + 60;
    while (performance.now() < standsUntil);
    await delay(30);
    assert.deepEqual(events, ['ping']);
  });

  it('forgets everything about another connection', async () => {
    const { monitor, events } = watched();
    monitor.ping();
    monitor.reset();
    await delay(60);
    assert.deepEqual(events, ['ping']);
  });
});
