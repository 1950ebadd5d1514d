import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { readAll } from '../../client/support.ts';

const module = new URL('../../../stream/zero-copy/pooled-input.ts', import.meta.url).href;

/** Gives back what it reads, each piece only after a while, in which what was read later must not have its memory. */
const script = `const { PooledInput } = await import(${JSON.stringify(module)});
  const input = new PooledInput(0);
  const held = [];
  let ended = false;
  input.readDirect((bytes, release) => held.push([bytes, release]) < 8);
  input.on('end', () => (ended = true));
  const step = () => {
    const [next] = held.splice(0, 1);
    if (next !== undefined) process.stdout.write(next[0], next[1]);
    if (held.length < 8) input.resume();
    if (!ended || held.length > 0) setImmediate(step);
  };
  step();`;

describe('PooledInput', () => {
  for (const [what, sizes] of [
    ['much', [5_000_000]],
    ['little, again and again', Array.from({ length: 200 }, (_, at) => at + 1)],
    ['both', [10, 300_000, 1, 4096, 4097, 65_536, 3]],
  ] as const) {
    it(`gives ${what} as it came, and the end`, async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const sent = sizes.map((size) => randomBytes(size));
      const got = readAll(child.stdout);
      for (const bytes of sent) if (!child.stdin.write(bytes)) await once(child.stdin, 'drain');
      child.stdin.end();
      assert.equal(hash(await got), hash(Buffer.concat(sent)));
    });
  }
});

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
