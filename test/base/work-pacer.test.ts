import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { WorkPacer } from '../../base/work-pacer.ts';
import type { WorkKind } from '../../base/work-pacer.ts';

const never = new AbortController().signal;

/** WorkPacer on a clock that moves only when work is done: each piece takes 1 ms of a budget of 5. */
function paced() {
  let now = 0;
  let turn = 0;
  const waited: number[] = [];
  const pacer = new WorkPacer({ budgetMs: 5, now: () => now, onWaited: (ms) => void waited.push(ms) });
  const done: string[] = [];
  /** The turn of the event loop in which each piece was done. */
  const doneIn: number[] = [];
  return {
    pacer,
    done,
    doneIn,
    waited,
    work: async (name: string, kind: WorkKind = 'open', holder = 'a', signal = never): Promise<void> => {
      await pacer.take(kind, holder, signal);
      now++;
      done.push(name);
      doneIn.push(turn);
    },
    untilIdle: async (): Promise<void> => {
      do {
        await nextTurn();
        turn++;
      } while (pacer.waiting > 0);
    },
    pass: (): void => void (now += 5),
    /** Nothing is left of the budget of this turn. */
    spend: (): void => {
      assert.equal(pacer.isSpent, false);
      now += 5;
    },
  };
}

describe('a work pacer', () => {
  it('let work go on at once while the budget lasts', async () => {
    const { pacer, spend } = paced();
    assert.equal(pacer.take('open', 'a', never), undefined);
    assert.equal(pacer.isSpent, false);
    spend();
    assert.equal(pacer.isSpent, true);
    await nextTurn();
    assert.equal(pacer.isSpent, false);
    assert.equal(pacer.take('open', 'a', never), undefined);
  });

  it('divide what comes at once, a budget in each turn, and have the rest of the loop between', async () => {
    const { work, untilIdle, doneIn, done, pacer, spend, waited } = paced();
    spend();
    const all = Array.from({ length: 300 }, (_, at) => work(`${at}`));
    assert.equal(done.length, 0);
    assert.equal(pacer.waiting, 300);
    await untilIdle();
    await Promise.all(all);
    assert.equal(done.length, 300);
    const inTurn = Map.groupBy(doneIn, (turn) => turn);
    for (const [turn, pieces] of inTurn) assert.ok(pieces.length <= 5, `${pieces.length} in turn ${turn}`);
    assert.equal(inTurn.size, 60);
    assert.equal(waited.length, 300);
  });

  it('count what a piece does after promises that are resolved already', async () => {
    const { pacer, spend, pass, untilIdle } = paced();
    spend();
    let done = 0;
    let most = 0;
    const long = async (): Promise<void> => {
      await pacer.take('open', 'a', never);
      for (let at = 0; at < 5; at++) await Promise.resolve();
      done++;
      pass();
    };
    const all = [long(), long(), long()];
    const count = async (): Promise<void> => {
      for (let before = done; pacer.waiting > 0; before = done) {
        await nextTurn();
        most = Math.max(most, done - before);
      }
    };
    await Promise.all([...all, untilIdle(), count()]);
    assert.equal(done, 3);
    assert.equal(most, 1);
  });

  it('give what has begun its turn first, and resumes before opens, which are not forgotten', async () => {
    const { work, untilIdle, done, spend } = paced();
    spend();
    const kinds: readonly WorkKind[] = [
      'open',
      'open',
      ...Array<WorkKind>(7).fill('resume'),
      'begun',
      'begun',
    ];
    const all = kinds.map((kind) => work(kind, kind));
    await untilIdle();
    await Promise.all(all);
    assert.equal(done.map((kind) => kind[0]).join(''), 'bbrrrorrror');
  });

  it('serve one holder after the other', async () => {
    const { work, untilIdle, done, spend } = paced();
    spend();
    const all = Array.from('aaaaaabcb').map((holder) => work(holder, 'open', holder));
    await untilIdle();
    await Promise.all(all);
    assert.equal(done.join(''), 'abcabaaaa');
  });

  it('forget a caller that leaves', async () => {
    const { work, untilIdle, done, pacer, spend } = paced();
    spend();
    const leaving = new AbortController();
    const gone = work('gone', 'resume', 'a', leaving.signal);
    const rejected = assert.rejects(gone, /left/);
    const all = [work('one'), work('two')];
    leaving.abort(new Error('left'));
    await rejected;
    assert.equal(pacer.waiting, 2);
    await untilIdle();
    await Promise.all(all);
    assert.deepEqual(done, ['one', 'two']);
    spend();
    await assert.rejects(Promise.resolve(pacer.take('open', 'a', leaving.signal)), /left/);
  });
});
