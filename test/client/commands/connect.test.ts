import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseConnect } from '../../../client/commands/connect.ts';

describe('parseConnect()', () => {
  for (const [args, expected] of [
    [['box'], { flags: {}, host: 'box' }],
    [['box', '22'], { flags: {}, host: 'box', port: '22' }],
    [['--', 'box', '22'], { flags: {}, host: 'box', port: '22' }],
    [['--', '-box'], { flags: {}, host: '-box' }],
    [['--via', 'connect', 'box'], { flags: { via: 'connect' }, host: 'box' }],
    [['--via=connect', 'box'], { flags: { via: 'connect' }, host: 'box' }],
    [['box', '--ca-file', 'a=b', '22'], { flags: { caFile: 'a=b' }, host: 'box', port: '22' }],
    [
      ['--token-file=a=b', '--gateway', 'g', 'box'],
      { flags: { tokenFile: 'a=b', gateway: 'g' }, host: 'box' },
    ],
    [['-h'], 'help'],
    [['box', '--help'], 'help'],
  ] as const) {
    it(`reads ${args.join(' ')}`, () => assert.deepEqual(parseConnect(args), expected));
  }

  for (const args of [
    [],
    ['--'],
    ['a', 'b', 'c'],
    ['--frob', 'box'],
    ['-x'],
    ['-'],
    ['--gateway'],
    ['--gateway='],
    ['box', '--via'],
    ['--token', 'secret', 'box'],
    ['--constructor', 'x'],
    ['-oProxyCommand=x'],
  ]) {
    it(`refuses ${JSON.stringify(args)}`, () => {
      assert.throws(() => parseConnect(args), { code: 'USAGE' });
    });
  }
});
