import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MetricsAggregator } from '../../../server/telemetry/metrics-aggregator.ts';
import { Metrics } from '../../../server/telemetry/metrics.ts';
import type { MetricsSnapshot } from '../../../server/telemetry/metrics.ts';

/** The metrics of a process whose audit log has failed so many times, as they come over a socket. */
async function counted(failures: number): Promise<MetricsSnapshot> {
  const metrics = new Metrics();
  for (let count = 0; count < failures; count++) metrics.auditFailed();
  return JSON.parse(JSON.stringify(await metrics.snapshot())) as MetricsSnapshot;
}

function valueOf(text: string, line: string): number {
  return Number(new RegExp(`^${line} (\\S+)$`, 'm').exec(text)?.[1]);
}

describe('the metrics of several processes', () => {
  it('are added up where they are about the gateway, and have a label where they are about a process', async () => {
    const text = await new MetricsAggregator().text(
      { instance: 'a', worker: '0', figures: await counted(1) },
      [{ instance: 'b', worker: '1', figures: await counted(2) }],
      new Set(['b']),
    );
    assert.equal(valueOf(text, 'postern_audit_failures_total'), 3);
    for (const worker of ['0', '1'])
      assert.ok(valueOf(text, `process_resident_memory_bytes\\{worker="${worker}"\\}`) > 0);
    assert.ok(!/^process_resident_memory_bytes /m.test(text));
  });

  it('never fall: those of a process that has ended stay', async () => {
    const aggregator = new MetricsAggregator();
    const own = { instance: 'a', figures: await counted(1) };
    const answer = { instance: 'b', figures: await counted(2) };
    assert.equal(
      valueOf(await aggregator.text(own, [answer], new Set(['b'])), 'postern_audit_failures_total'),
      3,
    );
    // It does not answer in time, and then it ends with two more.
    assert.equal(valueOf(await aggregator.text(own, [], new Set(['b'])), 'postern_audit_failures_total'), 3);
    aggregator.keep({ instance: 'b', figures: await counted(4) });
    for (let round = 0; round < 2; round++)
      assert.equal(valueOf(await aggregator.text(own, [], new Set()), 'postern_audit_failures_total'), 5);
  });
});
