import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HedgedRetry } from '../../../client/resume/retry.ts';
import type { RetryOptions } from '../../../client/resume/retry.ts';

interface Try {
  readonly signal: AbortSignal;
  readonly reached: () => void;
  readonly succeed: (result: string) => void;
  readonly fail: (error: Error) => void;
}

interface Controlled {
  readonly tries: HedgedRetry<string>;
  readonly made: readonly Try[];
  readonly discarded: readonly string[];
  /** The failures that were reviewed. */
  readonly reviewed: readonly unknown[];
  /** Resolves when that many tries have been made. */
  readonly madeCount: (count: number) => Promise<void>;
}

/** Tries whose outcomes the test decides. */
function controlled(options: Partial<RetryOptions<string>> = {}): Controlled {
  const made: Try[] = [];
  const discarded: string[] = [];
  const reviewed: unknown[] = [];
  let changed: (() => void) | undefined;
  const tries = new HedgedRetry<string>({
    attempt(signal, reached) {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      made.push({ signal, reached, succeed: resolve, fail: reject });
      changed?.();
      return promise;
    },
    pauseMs: () => 1,
    limitMs: () => 60_000,
    review(error) {
      if (error !== undefined) reviewed.push(error);
    },
    discard: (result) => void discarded.push(result),
    ...options,
  });
  return {
    tries,
    made,
    discarded,
    reviewed,
    async madeCount(count: number): Promise<void> {
      while (made.length < count) await new Promise<void>((resolve) => (changed = resolve));
    },
  };
}

/** Long enough for many pauses of 1 ms. */
const aWhile = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));
const never = 2 ** 30;

describe('Tries', () => {
  it('does not wait for a try that nobody answers, and takes whichever succeeds', async () => {
    const { tries, made, madeCount } = controlled();
    const result = tries.run();
    await madeCount(3);
    made[1]!.succeed('second');
    assert.equal(await result, 'second');
    const count = made.length;
    await aWhile();
    assert.equal(made.length, count);
    assert.ok(made.every(({ signal }) => signal.aborted));
  });

  it('makes no second try while one is being answered, and the next at once when that fails', async () => {
    const { tries, made, madeCount } = controlled();
    const result = tries.run();
    made[0]!.reached();
    await aWhile();
    assert.equal(made.length, 1);
    tries.retryNow();
    assert.equal(made.length, 1);
    made[0]!.fail(new Error('busy'));
    await madeCount(2);
    made[1]!.succeed('done');
    assert.equal(await result, 'done');
  });

  it('is not held up by one that was reached twice', async () => {
    const { tries, made, madeCount } = controlled();
    const result = tries.run();
    made[0]!.reached();
    made[0]!.reached();
    made[0]!.fail(new Error('reset'));
    await madeCount(3);
    made[2]!.succeed('done');
    assert.equal(await result, 'done');
  });

  it('hurries: the next try comes at once, and the pauses begin anew', async () => {
    const pauses: number[] = [];
    const { tries, made } = controlled({
      pauseMs(number) {
        pauses.push(number);
        return never;
      },
    });
    const result = tries.run();
    tries.retryNow();
    tries.retryNow();
    assert.equal(made.length, 3);
    assert.deepEqual(pauses, [0, 0, 0]);
    made[2]!.succeed('done');
    assert.equal(await result, 'done');
    tries.retryNow();
    assert.equal(made.length, 3);
  });

  it('drops what comes when there is a result already', async () => {
    const { tries, made, madeCount, discarded } = controlled();
    const result = tries.run();
    await madeCount(2);
    made[0]!.succeed('first');
    assert.equal(await result, 'first');
    made[1]!.succeed('late');
    await aWhile();
    assert.deepEqual(discarded, ['late']);
  });

  it('drops the second of two that come in the same moment', async () => {
    const { tries, made, madeCount, discarded } = controlled();
    const result = tries.run();
    await madeCount(2);
    made[0]!.succeed('first');
    made[1]!.succeed('second');
    assert.equal(await result, 'first');
    await aWhile();
    assert.deepEqual(discarded, ['second']);
  });

  it('stops: rejects, ends what is under way, and drops what still comes', async () => {
    const { tries, made, madeCount, discarded, reviewed } = controlled();
    const result = tries.run();
    await madeCount(2);
    tries.stop(new Error('enough'));
    await assert.rejects(result, /enough/);
    assert.ok(made.every(({ signal }) => signal.aborted));
    made[0]!.succeed('late');
    made[1]!.fail(new Error('aborted'));
    const count = made.length;
    tries.retryNow();
    await aWhile();
    assert.equal(made.length, count);
    assert.deepEqual([discarded, reviewed], [['late'], []]);
  });

  it('finishes: rejects and makes no more, but lets what is under way come to its end, and drops that', async () => {
    const { tries, made, madeCount, discarded, reviewed } = controlled();
    const result = tries.run();
    await madeCount(2);
    tries.finish(new Error('enough'));
    await assert.rejects(result, /enough/);
    const count = made.length;
    assert.ok(made.every(({ signal }) => !signal.aborted));
    made[0]!.succeed('late');
    made[1]!.fail(new Error('no way'));
    tries.retryNow();
    await aWhile();
    assert.equal(made.length, count);
    assert.deepEqual([discarded, reviewed], [['late'], []]);
  });

  it('may be stopped by the review of a failure, and by that before a try', async () => {
    for (const at of [0, 1]) {
      let reviews = 0;
      const { tries, made } = controlled({
        pauseMs: () => never,
        review() {
          if (reviews++ === at) tries.stop(new Error('no use'));
        },
      });
      const result = tries.run();
      made[0]?.fail(new Error('denied'));
      await assert.rejects(result, /no use/);
      assert.equal(made.length, at);
    }
  });

  it('does not wait for ever for a try that is answered and forgets its signal', async () => {
    const { tries, made, madeCount, discarded } = controlled({ limitMs: () => 20 });
    const result = tries.run();
    await madeCount(1);
    made[0]!.reached();
    await madeCount(2);
    made[1]!.succeed('second');
    assert.equal(await result, 'second');
    made[0]!.succeed('late');
    await new Promise(setImmediate);
    assert.deepEqual(discarded, ['late']);
  });

  it('begins after a pause, unless it has to hurry, and may be stopped in it', async () => {
    const { tries, made, madeCount } = controlled();
    const result = tries.run(3_600_000);
    await new Promise(setImmediate);
    assert.equal(made.length, 0);
    tries.retryNow();
    await madeCount(1);
    made[0]!.succeed('at once');
    assert.equal(await result, 'at once');
    const others = controlled();
    const stopped = others.tries.run(3_600_000);
    others.tries.stop(new Error('stopped'));
    await assert.rejects(stopped, /stopped/);
  });

  it('gives each try its own limit', async () => {
    const limits: number[] = [];
    const { tries, made } = controlled({
      pauseMs: () => never,
      limitMs(number) {
        limits.push(number);
        return 10;
      },
    });
    const result = tries.run();
    const { signal } = made[0]!;
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    tries.stop(new Error('over'));
    await assert.rejects(result);
    assert.deepEqual(limits, [0]);
  });
});
