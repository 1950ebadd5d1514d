import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BufferPool } from '../../base/buffer-pool.ts';

describe('BufferPool', () => {
  it('gives out buffers of its size, each with memory of its own', () => {
    const pool = new BufferPool({ bufferBytes: 100, maxFree: 4 });
    const [one, other] = [pool.acquire(), pool.acquire()];
    assert.equal(one.bytes.length, 100);
    assert.equal(one.bytes.buffer.byteLength, 100);
    assert.notEqual(one.bytes.buffer, other.bytes.buffer);
  });

  it('gives a released buffer out again', () => {
    const pool = new BufferPool({ bufferBytes: 100, maxFree: 4 });
    const { bytes, release } = pool.acquire();
    release();
    assert.equal(pool.acquire().bytes, bytes);
    assert.notEqual(pool.acquire().bytes, bytes);
  });

  it('never gives out again what was released with an error', () => {
    const pool = new BufferPool({ bufferBytes: 100, maxFree: 4 });
    const { bytes, release } = pool.acquire();
    release(new Error('the write has failed'));
    assert.notEqual(pool.acquire().bytes, bytes);
  });

  it('keeps no more than `maxFree`, and none after `clear`', () => {
    const pool = new BufferPool({ bufferBytes: 100, maxFree: 2 });
    const buffers = [pool.acquire(), pool.acquire(), pool.acquire()];
    for (const { release } of buffers) release(null);
    const known = new Set(buffers.map(({ bytes }) => bytes));
    const again = [pool.acquire(), pool.acquire(), pool.acquire()];
    assert.equal(again.filter(({ bytes }) => known.has(bytes)).length, 2);
    for (const { release } of again) release();
    pool.clear();
    assert.ok(!again.some(({ bytes }) => bytes === pool.acquire().bytes));
  });
});
