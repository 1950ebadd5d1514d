import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseProxy, hopName } from '../../../../client/egress/proxy/proxy-url.ts';
import { routeCache } from '../../../../client/egress/route/route-cache.ts';
import { temporaryDirectory } from '../../support.ts';

const proxy = parseProxy('http://p:3128', 'here');
const verdict = { source: 'GNOME', why: 'it is set there', hops: [proxy, 'direct'] as const };
const minute = 60_000;

describe('routeCache()', () => {
  it('keeps a verdict for its time, in a file for this user only', (t) => {
    const state = temporaryDirectory(t);
    let now = 1e12;
    const memory = routeCache(state, () => now);
    assert.equal(memory.recall('q'), undefined);
    memory.keep('q', verdict, minute);
    assert.deepEqual(memory.recall('q')?.hops.map(hopName), ['http://p:3128', 'direct']);
    assert.deepEqual(routeCache(state, () => now).recall('q')?.source, 'GNOME');
    assert.equal(memory.recall('another'), undefined);
    assert.equal(statSync(join(state, 'ways.json')).mode & 0o777, 0o600);
    now += minute;
    assert.equal(memory.recall('q'), undefined);
  });

  it('writes no password down', (t) => {
    const state = temporaryDirectory(t);
    const memory = routeCache(state);
    memory.keep('q', { ...verdict, hops: [parseProxy('http://u:canary@p', 'here')] }, minute);
    assert.equal(memory.recall('q'), undefined);
    memory.keepDead(parseProxy('http://u:canary@p', 'here'));
    assert.ok(!readFileSync(join(state, 'ways.json'), 'utf8').includes('canary'));
  });

  it('forgets a dead proxy after a while, and when it is there again', (t) => {
    let now = 1e12;
    const memory = routeCache(temporaryDirectory(t), () => now);
    memory.keepDead(proxy);
    assert.deepEqual([memory.isDead(proxy), memory.isDead('direct')], [true, false]);
    memory.keepAlive(proxy);
    assert.equal(memory.isDead(proxy), false);
    memory.keepDead(proxy);
    now += 5 * minute;
    assert.equal(memory.isDead(proxy), false);
  });

  it('does not believe a time that a wrong clock has written', (t) => {
    let now = 2e12;
    const memory = routeCache(temporaryDirectory(t), () => now);
    memory.keepDead(proxy);
    memory.keepSystemTrust();
    now = 1e12;
    assert.deepEqual([memory.isDead(proxy), memory.needsSystemTrust], [false, false]);
  });

  it('remembers nothing where there is no place for it', () => {
    for (const state of [undefined, '/dev/null/nowhere']) {
      const memory = routeCache(state);
      memory.keep('q', verdict, minute);
      memory.keepSystemTrust();
      assert.deepEqual([memory.recall('q'), memory.needsSystemTrust], [undefined, false]);
    }
  });

  for (const text of [
    '',
    'null',
    '[]',
    '{"version":2,"networks":{}}',
    '{"version":1,"networks":[1]}',
    '{"version":1,"networks":null}',
  ]) {
    it(`takes ${JSON.stringify(text)} for nothing, and writes over it`, (t) => {
      const state = temporaryDirectory(t);
      writeFileSync(join(state, 'ways.json'), text);
      const memory = routeCache(state);
      assert.equal(memory.recall('q'), undefined);
      memory.keep('q', verdict, minute);
      assert.equal(memory.recall('q')?.source, 'GNOME');
    });
  }

  for (const change of [
    { steps: [] },
    { steps: 'direct' },
    { steps: ['ftp://p'] },
    { steps: [7] },
    { source: 7 },
    { until: 'soon' },
  ]) {
    it(`takes a verdict with ${JSON.stringify(change)} for none`, (t) => {
      const state = temporaryDirectory(t);
      const memory = routeCache(state);
      memory.keep('q', verdict, minute);
      const path = join(state, 'ways.json');
      const file = JSON.parse(readFileSync(path, 'utf8')) as {
        networks: Record<string, { verdicts: Record<string, object> }>;
      };
      for (const network of Object.values(file.networks)) Object.assign(network.verdicts['q']!, change);
      writeFileSync(path, JSON.stringify(file));
      assert.equal(memory.recall('q'), undefined);
    });
  }

  it('does not grow without end', (t) => {
    const state = temporaryDirectory(t);
    const memory = routeCache(state);
    for (let count = 0; count < 100; count++) memory.keep(`q${count}`, verdict, minute);
    assert.equal(memory.recall('q0'), undefined);
    assert.equal(memory.recall('q99')?.source, 'GNOME');
  });
});
