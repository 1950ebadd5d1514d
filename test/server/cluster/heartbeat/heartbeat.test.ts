import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Heartbeat } from '../../../../server/cluster/heartbeat/heartbeat.ts';
import type { Watched } from '../../../../server/cluster/heartbeat/heartbeat.ts';

/** A process that answers each ping at once, until it is stopped. */
class Process implements Watched {
  silentMs = 0;
  isStopped = false;

  tick(elapsedMs: number): void {
    this.silentMs = this.isStopped ? this.silentMs + elapsedMs : 0;
  }
}

function watch(count: number, { canEnd = (): boolean => true } = {}) {
  const processes = Array.from({ length: count }, () => new Process());
  const events: string[] = [];
  const note = (event: string) => (worker: Process) => {
    events.push(`${event} ${processes.indexOf(worker)}`);
  };
  let time = 0;
  const ended = new Set<Process>();
  const heartbeat = new Heartbeat<Process>({
    watched: () => processes.filter((each) => !ended.has(each)),
    onSilent: note('silent'),
    onAnswered: note('answered'),
    onHung: (worker) => {
      note('hung')(worker);
      ended.add(worker);
    },
    canEnd,
    now: () => time,
  });
  heartbeat.stop();
  const pass = (seconds: number): string[] => {
    for (let second = 0; second < seconds; second++) {
      time += 1000;
      heartbeat.tick();
    }
    return events.splice(0);
  };
  const jump = (ms: number): string[] => {
    time += ms;
    heartbeat.tick();
    return events.splice(0);
  };
  return { processes, heartbeat, pass, jump };
}

describe('Heartbeat', () => {
  it('leaves those alone that answer', () => assert.deepEqual(watch(3).pass(100), []));

  it('reports one that is silent after 10 seconds, and ends it after 30', () => {
    const { processes, heartbeat, pass } = watch(2);
    processes[1]!.isStopped = true;
    assert.deepEqual(pass(9), []);
    assert.deepEqual(pass(1), ['silent 1']);
    assert.equal(heartbeat.silentCount, 1);
    assert.deepEqual(pass(19), []);
    assert.deepEqual(pass(1), ['hung 1']);
    assert.deepEqual(pass(60), []);
    assert.equal(heartbeat.silentCount, 0);
  });

  it('takes one back that was only slow', () => {
    const { processes, heartbeat, pass } = watch(1);
    processes[0]!.isStopped = true;
    assert.deepEqual(pass(29), ['silent 0']);
    processes[0]!.isStopped = false;
    assert.deepEqual(pass(1), ['answered 0']);
    assert.equal(heartbeat.silentCount, 0);
    processes[0]!.isStopped = true;
    assert.deepEqual(pass(29), ['silent 0']);
  });

  for (const ms of [60_000, 86_400_000, -60_000]) {
    it(`blames none of them for a clock that jumps by ${ms} ms`, () => {
      const { processes, pass, jump } = watch(3);
      for (const each of processes) each.isStopped = true;
      assert.deepEqual(pass(5), []);
      // The machine was suspended: they could not answer either.
      assert.deepEqual(jump(ms), []);
      for (const each of processes) each.isStopped = false;
      assert.deepEqual(pass(60), []);
    });
  }

  it('ends none while it must not, and one after the other', () => {
    let isReplacing = false;
    const { processes, pass } = watch(2, { canEnd: () => !isReplacing && (isReplacing = true) });
    for (const each of processes) each.isStopped = true;
    assert.deepEqual(pass(30), ['silent 0', 'silent 1', 'hung 0']);
    assert.deepEqual(pass(5), []);
    isReplacing = false;
    assert.deepEqual(pass(1), ['hung 1']);
  });
});
