import assert from 'node:assert/strict';
import { getMaxListeners, once, setMaxListeners } from 'node:events';
import { describe, it } from 'node:test';
import { deadlineSignal, onAbort, withDeadline } from '../../base/deadline.ts';

describe('deadlineSignal()', () => {
  it('aborts after its time', async () => {
    const keepAlive = setInterval(() => {}, 1000);
    await once(deadlineSignal(new AbortController().signal, 10), 'abort');
    clearInterval(keepAlive);
  });

  it('aborts with the other signal, also one that has', () => {
    const other = new AbortController();
    const limit = deadlineSignal(other.signal, 60_000);
    assert.ok(!limit.aborted);
    other.abort();
    assert.ok(limit.aborted);
    assert.ok(deadlineSignal(other.signal, 60_000).aborted);
  });
});

const never = (): Promise<never> => new Promise(() => {});

function fail(): never {
  throw new RangeError('now');
}

describe('onAbort()', () => {
  it('takes any number of listeners without a warning on stderr, also on Node 20', () => {
    const { signal } = new AbortController();
    // The default there.
    setMaxListeners(10, signal);
    onAbort(signal, () => {});
    assert.equal(getMaxListeners(signal), 0);
  });

  it('calls its listener once, at once where the signal has aborted, and never after removal', () => {
    let calls = 0;
    onAbort(AbortSignal.abort(), () => calls++);
    assert.equal(calls, 1);
    const controller = new AbortController();
    onAbort(controller.signal, () => calls++);
    const remove = onAbort(controller.signal, () => calls++);
    remove();
    remove();
    controller.abort();
    assert.equal(calls, 2);
  });
});

describe('withDeadline()', () => {
  it('gives what the work gives', async () => {
    assert.equal(await withDeadline(undefined, 10_000, async () => 7), 7);
    assert.equal(await withDeadline(new AbortController().signal, 10_000, () => 8), 8);
  });

  it('rejects in time where the work ignores its signal, and aborts that', async () => {
    let inner: AbortSignal | undefined;
    const late = withDeadline(undefined, 10, (signal) => {
      inner = signal;
      return never();
    });
    await assert.rejects(late, { name: 'TimeoutError' });
    assert.equal(inner?.aborted, true);
    await assert.rejects(
      withDeadline(undefined, 10, never, { onTimeout: () => new RangeError('late') }),
      RangeError,
    );
  });

  it('rejects with the reason of the outer signal, and does not begin where that has aborted', async () => {
    const outer = new AbortController();
    const stopped = withDeadline(outer.signal, 10_000, never);
    outer.abort(new RangeError('stop'));
    await assert.rejects(stopped, RangeError);
    let begun = false;
    await assert.rejects(
      withDeadline(outer.signal, 10_000, () => void (begun = true), {
        onAborted: () => new TypeError('gone'),
      }),
      TypeError,
    );
    assert.equal(begun, false);
  });

  it('passes on what the work throws, at once or later', async () => {
    await assert.rejects(withDeadline(undefined, 10_000, fail), RangeError);
    await assert.rejects(
      withDeadline(undefined, 10_000, async () => fail()),
      RangeError,
    );
  });

  it('leaves no listener behind', async () => {
    const outer = new AbortController();
    let added = 0;
    const { signal } = outer;
    const counting = new Proxy(signal, {
      get(target, name) {
        if (name === 'addEventListener') added++;
        if (name === 'removeEventListener') added--;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === 'function' ? (value as () => unknown).bind(target) : value;
      },
    });
    await withDeadline(counting, 10_000, async () => {});
    assert.equal(added, 0);
  });
});
