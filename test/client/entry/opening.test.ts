import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { entriesByPreference, entryFacts } from '../../../protocol/entries.ts';
import type { EntryName } from '../../../protocol/entries.ts';
import { stages } from '../../support/cutting-front.ts';
import type { CuttingPlan, Stage, Way } from '../../support/cutting-front.ts';
import type { Fault } from '../../support/fault-proxy.ts';

import { openThrough, startEnds } from './opening-parts.ts';
const isLong = Boolean(process.env['POSTERN_LONG']);
const ends = startEnds();

/** Lets one entry through and refuses the others, as a proxy does that was told so. */
function only(entry: EntryName): CuttingPlan['treat'] {
  return (name) => (name === entry ? 'pass' : 403);
}

/** Whether a cut at this stage can be met on this way, by the opening and not by what follows it. */
function isMet(way: Way, entry: EntryName, stage: Stage): boolean {
  if (stage.startsWith('proxy')) return way === 'proxy';
  if (stage === 'tls') return way !== 'direct';
  // A tunnel that is open, and cannot be resumed, ends with its connection.
  if (stage === 'opened' || stage === 'first data') return entryFacts(entry).resumable;
  return true;
}

const ways: readonly Way[] = ['direct', 'tls', 'proxy'];
const faults: readonly Fault[] = ['reset', 'end', 'silence'];

interface Case {
  readonly way: Way;
  readonly entry: EntryName;
  readonly stage: Stage;
  readonly fault: Fault;
  readonly times: number;
}

const all: readonly Case[] = ways.flatMap((way) =>
  entriesByPreference.flatMap((entry) =>
    stages
      .filter((stage) => isMet(way, entry, stage))
      .flatMap((stage) =>
        faults.flatMap((fault) =>
          // Each silence takes its time.
          (fault === 'silence' ? [1] : [1, 2]).map((times) => ({ way, entry, stage, fault, times })),
        ),
      ),
  ),
);

/** Every stage and kind of each entry directly, and each stage of the others ways once. */
const usual = all.filter(
  ({ way, entry, stage, fault, times }, at) =>
    times === 1 &&
    (fault !== 'silence' || (way === 'direct' && entry === 'relay')) &&
    (way === 'direct' || entry === 'relay' || at % 11 === 0 || stage.startsWith('proxy')),
);

describe('the opening of a tunnel, when connections are cut', { concurrency: 24 }, () => {
  for (const one of isLong ? all : usual) {
    const { way, entry, stage, fault, times } = one;
    const often = times === 1 ? '' : ' twice';
    it(`${way}, only ${entry} passes: ${fault} at ${stage}${often}`, async (t) => {
      const { front, memory, gateway, ...found } = await openThrough(t, ends, {
        way,
        cut: { stage, fault, times },
        treat: only(entry),
      });
      assert.equal(front.cuts, times);
      assert.equal(found.entry, entry);
      assert.equal(memory.recall(gateway), entry);
      assert.equal(memory.isProvisional(gateway), false);
    });
  }

  for (const fault of ['reset', 'end'] as const) {
    for (const stage of ['connection', 'request', 'answer', 'opened'] as const) {
      it(`everything passes, but ${fault} at ${stage} twice: the relay is used`, async (t) => {
        const { entry, front, memory, gateway } = await openThrough(t, ends, {
          way: 'direct',
          cut: { stage, fault, times: 2 },
          treat: () => 'pass',
        });
        assert.equal(entry, 'relay');
        assert.equal(memory.recall(gateway), 'relay');
        assert.equal(front.asked.filter((name) => name !== 'relay').length, 0);
      });
    }
  }
});
