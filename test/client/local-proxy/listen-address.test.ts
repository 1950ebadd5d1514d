import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { parseForward, parseListen, parseSocket } from '../../../client/local-proxy/listen-address.ts';

const tcp = (host: string, port: number): object => ({ kind: 'tcp', host, port });

describe('parseListen()', () => {
  for (const [text, expected] of [
    ['1080', tcp('127.0.0.1', 1080)],
    ['0', tcp('127.0.0.1', 0)],
    ['localhost:1080', tcp('127.0.0.1', 1080)],
    ['127.1.2.3:1080', tcp('127.1.2.3', 1080)],
    ['[::1]:1080', tcp('::1', 1080)],
  ] as const) {
    it(`reads ${text}`, () => assert.deepEqual(parseListen(text), expected));
  }

  for (const text of [
    '',
    'a',
    '-1',
    '65536',
    '0.0.0.0:1080',
    '[::]:1080',
    '10.0.0.1:1080',
    '127.0.0.1',
    '127.1:80',
    '127.0.0.256:1',
    '::1:1080',
    'box:1080',
    '*:1080',
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseListen(text), { code: 'USAGE' }));
  }
});

describe('parseForward()', () => {
  for (const [text, at, forward] of [
    ['2222:box:22', tcp('127.0.0.1', 2222), { host: 'box', port: 22 }],
    ['127.0.0.1:2222:box:22', tcp('127.0.0.1', 2222), { host: 'box', port: 22 }],
    ['[::1]:2222:[2001:DB8::1]:22', tcp('::1', 2222), { host: '2001:db8::1', port: 22 }],
    ['/run/a:b.sock:box:22', { kind: 'unix', path: '/run/a:b.sock' }, { host: 'box', port: 22 }],
    ['./box.sock:box:22', { kind: 'unix', path: resolve('box.sock') }, { host: 'box', port: 22 }],
  ] as const) {
    it(`reads ${text}`, () => assert.deepEqual(parseForward(text), { at, forward }));
  }

  for (const text of ['', '2222', '2222:box', 'box:22', '0.0.0.0:2222:box:22', '2222:::1:22', ':box:22']) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseForward(text), { code: 'USAGE' }));
  }

  for (const text of ['2222:a$b:22', '2222:box:0', '2222:0x7f.1:22'])
    it(`refuses ${text}`, () => assert.throws(() => parseForward(text), { code: 'TARGET_INVALID' }));
});

describe('parseSocket()', () => {
  it('refuses a path that does not fit into an address', () => {
    assert.throws(() => parseSocket(`/${'x'.repeat(104)}`), { code: 'USAGE' });
  });
});
