import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { endsOfLostTunnels } from '../../../server/audit/lost-tunnels.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-lost-'));
after(() => rmSync(folder, { recursive: true }));

let made = 0;
const time = '2026-11-30T12:00:00.000Z';

async function lostIn(
  records: readonly object[],
  { living = [], since = 0 }: { living?: string[]; since?: number } = {},
): Promise<unknown[]> {
  const path = join(folder, `${made++}.jsonl`);
  const lines = records.map((record, at) => JSON.stringify({ seq: at + 1, prev: '', time, ...record }));
  writeFileSync(path, lines.map((line) => `${line}\n`).join(''));
  const ends = await endsOfLostTunnels(path, { living: new Set(living), since });
  assert.equal(
    ends.every(({ event, cause }) => event === 'end' && cause === 'GATEWAY_LOST'),
    true,
  );
  return ends.map(({ session }) => session);
}

const open = (session: string, instance?: string): object => ({ event: 'open', session, instance });

describe('lost tunnels', () => {
  it('are those that have opened and not ended, of processes that do not live', async () => {
    const records = [
      { event: 'start', instance: 'one', others: [] },
      open('lost', 'one'),
      open('ended', 'one'),
      { event: 'end', session: 'ended' },
      open('refused', 'one'),
      { event: 'refuse', session: 'refused' },
      { event: 'refuse', count: 7 },
      open('lives', 'two'),
    ];
    assert.deepEqual(await lostIn(records, { living: ['two'] }), ['lost']);
  });

  it('are looked for beyond starts that had others beside them, up to one that had none', async () => {
    const records = [
      open('looked after before', 'zero'),
      { event: 'start', instance: 'one', others: [] },
      open('first', 'one'),
      { event: 'start', instance: 'two', others: ['one'] },
      open('second', 'two'),
      { event: 'start', instance: 'three' },
    ];
    assert.deepEqual(await lostIn(records), ['first', 'second']);
  });

  it('of an earlier version, which names no process, are lost when no process lives', async () => {
    assert.deepEqual(await lostIn([open('a')], { living: ['one'] }), []);
    assert.deepEqual(await lostIn([open('a')]), ['a']);
  });

  it('are not looked for where a session cannot have lasted until now', async () => {
    const records = [open('old', 'one'), { ...open('newer', 'one'), time: '2026-11-30T14:00:00.000Z' }];
    assert.deepEqual(await lostIn(records, { since: Date.parse('2026-11-30T13:00:00Z') }), ['newer']);
  });

  it('are found in a file of many chunks, with lines that are no records', async () => {
    const filler = { event: 'refuse', session: 'x', reason: 'x'.repeat(900) };
    const records = [
      open('first', 'one'),
      ...Array.from({ length: 2500 }, () => filler),
      open('last', 'one'),
    ];
    assert.deepEqual(await lostIn(records), ['first', 'last']);
  });
});
