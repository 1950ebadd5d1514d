import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nearestName } from '../../base/nearest-name.ts';
import { parseArgs } from '../../base/parse-args.ts';

describe('nearestName()', () => {
  const known = ['status', 'setup', 'login', 'logout', 'once', 'token-file'];
  for (const [text, meant] of [
    ['sttus', 'status'],
    ['STATUS', 'status'],
    ['onec', 'once'],
    ['logn', 'login'],
    ['token-fiel', 'token-file'],
    ['to', undefined],
    ['tok', 'token-file'],
    ['zzqx', undefined],
    ['', undefined],
    ['x'.repeat(10_000), undefined],
  ] as const) {
    it(`takes ${JSON.stringify(text.slice(0, 20))} for ${meant ?? 'nothing'}`, () =>
      assert.equal(nearestName(text, known), meant));
  }
});

describe('parseArgs()', () => {
  const options = { json: { type: 'boolean' }, gateway: { type: 'string' } } as const;
  const message = (...args: string[]): string => {
    try {
      parseArgs({ args, options });
      return '';
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'ERR_PARSE_ARGS_UNKNOWN_OPTION');
      return (error as Error).message;
    }
  };

  it('reads what it knows', () =>
    assert.deepEqual({ ...parseArgs({ args: ['--json'], options }).values }, { json: true }));
  it('names the option that was meant', () =>
    assert.equal(message('--gatway=x'), "Unknown option '--gatway'; did you mean '--gateway'?"));
  it('makes nothing of a letter', () => assert.equal(message('-j'), "Unknown option '-j'"));
});
