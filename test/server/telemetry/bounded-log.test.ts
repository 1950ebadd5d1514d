import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { BoundedLog } from '../../../server/telemetry/bounded-log.ts';

it('BoundedLog writes what each kind can afford, and counts the rest', async () => {
  const lines: { readonly level: string; readonly omitted?: number; readonly at?: number }[] = [];
  const write =
    (level: string) =>
    (fields: object): void =>
      void lines.push({ level, ...fields });
  let clock = 0;
  const log = new BoundedLog({ info: write('info'), warn: write('warn'), error: write('error') } as never, {
    burst: 3,
    perSecond: 2,
    now: () => clock,
  });
  for (let at = 0; at < 10; at++) log.write('info', 'one', { at }, 'it happened');
  log.write('warn', 'other', { at: 100 }, 'another kind has its own');
  assert.deepEqual(
    lines.map(({ at }) => at),
    [0, 1, 2, 100],
  );
  clock = 500;
  log.write('info', 'one', { at: 11 }, 'it happened');
  assert.deepEqual(lines.at(-1), { level: 'info', at: 11, omitted: 7 });
  for (let at = 0; at < 5; at++) log.write('info', 'one', { at }, 'it happened');
  // The end of a flood is in a line of its own.
  while (lines.at(-1)?.omitted !== 5) await delay(20, undefined, { ref: true });
  assert.deepEqual(lines.at(-1), { level: 'info', kind: 'one', omitted: 5 });
  clock = 60_000;
  for (let at = 0; at < 10; at++) log.write('info', 'one', { at }, 'it happened');
  assert.equal(lines.filter(({ at }) => at !== undefined).length, 8, 'no more than a burst is saved up');
});
