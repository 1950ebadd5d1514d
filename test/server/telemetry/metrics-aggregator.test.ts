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

  it('count the tunnels of a process that was killed as closed', async () => {
    const metrics = new Metrics();
    const record = { id: 'x', entry: 'relay', requested: 'box', remoteAddress: '192.0.2.1', offeredAt: 0 };
    const counts = { resumes: 0, bytesFromClient: 0, bytesFromTarget: 0 };
    for (let count = 0; count < 3; count++) metrics.opened({ ...record, ...counts, openedAt: 1 });
    metrics.ended({ ...record, ...counts, openedAt: 1, endedAt: 2, end: 'CLOSED' });
    const figures = JSON.parse(JSON.stringify(await metrics.snapshot())) as MetricsSnapshot;
    const aggregator = new MetricsAggregator();
    aggregator.keep({ instance: 'b', figures });
    const text = await aggregator.text({ instance: 'a', figures: await counted(0) }, [], new Set());
    const valueWith = (label: string): number =>
      valueOf(text, `postern_tunnels_closed_total\\{entry="relay",cause="${label}"\\}`);
    assert.equal(valueOf(text, 'postern_tunnels_opened_total\\{entry="relay"\\}'), 3);
    assert.deepEqual([valueWith('PROCESS_LOST'), valueWith('CLOSED')], [2, 1]);
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
