import assert from 'node:assert/strict';
import { it } from 'node:test';
import { testPath } from '../support/battery.ts';

const unbuffered = /proxy_buffering +off;/g;

testPath('nginx', ['http'], undefined, {
  how: ' that speaks HTTP/1.0, buffers, and ends what is silent for a minute, as it does by default',
  front: { replacing: [/proxy_(?:http_version|buffering|read_timeout|send_timeout) +[^;]*;/g, ''] },
});

testPath('nginx', ['http'], undefined, {
  how: ' that buffers everything',
  front: { replacing: [unbuffered, 'proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;'] },
});

testPath('inspecting squid', ['http'], (world) => {
  it('squid let no upgrade pass, and saw each request', () => {
    const lines = world().corporateProxy!.accessLog().trim().split('\n');
    assert.ok(lines.some((line) => line.includes('/ssh/v4/connect')));
    assert.ok(lines.some((line) => line.includes('/ssh/http/down')));
    assert.ok(lines.every((line) => !line.includes('/101 ')));
  });
});
