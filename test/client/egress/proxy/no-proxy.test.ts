import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isExcepted } from '../../../../client/egress/proxy/no-proxy.ts';

const cases: readonly [list: string, host: string, port: number, expected: boolean][] = [
  ['', 'gw.example', 443, false],
  [' , ,', 'gw.example', 443, false],
  ['*', 'gw.example', 443, true],
  ['gw.example', 'gw.example', 443, true],
  ['GW.Example', 'gw.example', 443, true],
  ['example', 'gw.example', 443, true],
  ['.example', 'gw.example', 443, true],
  ['.gw.example', 'gw.example', 443, true],
  ['*.example', 'gw.example', 443, true],
  ['w.example', 'gw.example', 443, false],
  ['gw.example.', 'gw.example', 443, true],
  ['.', 'gw.example', 443, false],
  ['a b,gw.example', 'gw.example', 443, true],
  ['a gw.example', 'gw.example', 443, true],
  ['gw.example:443', 'gw.example', 443, true],
  ['gw.example:8443', 'gw.example', 443, false],
  ['gw.example:https', 'gw.example', 443, false],
  ['10.0.0.0/8', '10.1.2.3', 443, true],
  ['10.0.0.0/8', '11.1.2.3', 443, false],
  ['10.0.0.0/8', '10.example', 443, false],
  ['10.0.0.0/33', '10.1.2.3', 443, false],
  ['10.0.0.0/', '10.1.2.3', 443, false],
  ['/8', '10.1.2.3', 443, false],
  ['10.1.2.3', '10.1.2.3', 443, true],
  ['10.1.2.3:443', '10.1.2.3', 443, true],
  ['1.2.3', '10.1.2.3', 443, false],
  ['::1', '::1', 443, true],
  ['[::1]', '::1', 443, true],
  ['[::1]:443', '::1', 443, true],
  ['[::1]:8443', '::1', 443, false],
  ['0:0:0:0:0:0:0:1', '::1', 443, true],
  ['fd00::/8', 'fd12::1', 443, true],
  ['[fd00::/8]', 'fd12::1', 443, true],
  ['fd00::/8', 'fe80::1', 443, false],
];

describe('isExcepted()', () => {
  for (const [list, host, port, expected] of cases) {
    it(`${JSON.stringify(list)} ${expected ? 'covers' : 'does not cover'} ${host} ${port}`, () => {
      assert.equal(isExcepted(list, { host, port }), expected);
    });
  }
});
