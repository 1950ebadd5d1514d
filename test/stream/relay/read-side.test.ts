import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ReadSide } from '../../../stream/relay/read-side.ts';

/** A reader that wants more after each piece while `isHungry`. */
function reader(): {
  pushed: (string | null)[];
  isHungry: boolean;
  readableLength: number;
  push: typeof push;
} {
  const pushed: (string | null)[] = [];
  function push(this: { isHungry: boolean }, bytes: Buffer | null): boolean {
    pushed.push(bytes === null ? null : bytes.toString());
    return this.isHungry;
  }
  return { pushed, isHungry: true, readableLength: 0, push };
}

describe('ReadSide', () => {
  it('keeps what arrives until the reader asks, and counts it as unread', () => {
    const stream = reader();
    const side = new ReadSide(stream);
    side.add(Buffer.from('ab'));
    side.add(Buffer.from('c'));
    assert.deepEqual(stream.pushed, []);
    assert.equal(side.unreadBytes, 3);
    side.request();
    assert.equal(stream.pushed.join(''), 'abc');
    assert.equal(side.unreadBytes, 0);
  });

  it('passes bytes on as they are to a reader that has caught up, with their release', () => {
    const side = new ReadSide(reader());
    const passed: Buffer[] = [];
    let released = 0;
    side.readDirect((bytes, release) => {
      passed.push(bytes);
      release();
      return true;
    });
    side.request();
    const bytes = Buffer.alloc(10);
    side.add(bytes, () => released++);
    assert.equal(passed[0], bytes);
    assert.equal(released, 1);
  });

  it('stops when the reader has enough', () => {
    const stream = reader();
    stream.isHungry = false;
    const side = new ReadSide(stream);
    side.request();
    side.add(Buffer.from('a'));
    side.add(Buffer.from('b'));
    assert.deepEqual(stream.pushed, ['a']);
    side.request();
    assert.deepEqual(stream.pushed, ['a', 'b']);
  });

  it('pushes the EOF once, after everything, also to a reader that has not asked', () => {
    const stream = reader();
    const side = new ReadSide(stream);
    side.add(Buffer.from('a'));
    side.end();
    assert.deepEqual(stream.pushed, []);
    side.request();
    side.request();
    assert.deepEqual(stream.pushed, ['a', null]);
    const empty = reader();
    new ReadSide(empty).end();
    assert.deepEqual(empty.pushed, [null]);
  });

  it('pushes the EOF once when the sink asks for more while it receives the last bytes', () => {
    const stream = reader();
    const side = new ReadSide(stream);
    side.readDirect(() => {
      side.request();
      return true;
    });
    side.add(Buffer.from('a'));
    side.end();
    side.request();
    assert.deepEqual(stream.pushed, [null]);
  });
});
