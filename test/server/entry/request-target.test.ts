import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { targetInPath } from '../../../server/entry/request-target.ts';

const table: [url: string | undefined, asked: string | undefined][] = [
  ['/ssh/tcp/box/22/', 'box:22'],
  ['/ssh/tcp/box/22', 'box:22'],
  ['/ssh/tcp/2001%3Adb8%3A%3A1/22/', '[2001:db8::1]:22'],
  ['/ssh/tcp/2001%3adb8%3a%3a1/22/', '[2001:db8::1]:22'],
  ['/ssh/tcp/2001:db8::1/22/', '[2001:db8::1]:22'],
  ['/ssh/tcp/[2001:db8::1]/22/', '[2001:db8::1]:22'],
  // For the pipeline to refuse.
  ['/ssh/tcp/b%2ex/22/', 'b%2ex:22'],
  ['/ssh/tcp/box%3A22/22/', '[box:22]:22'],
  // Not ours.
  [undefined, undefined],
  ['/ssh/tcp/', undefined],
  ['/ssh/tcp/box', undefined],
  ['/ssh/tcp/box/22//', undefined],
  ['/ssh/tcp//22/', undefined],
  ['/ssh/tcp/box/22/?a', undefined],
  ['/ssh/tcp/box/22/#a', undefined],
  ['/ssh/tcp/a/b/22/', undefined],
  ['/SSH/tcp/box/22/', undefined],
  ['/x/ssh/tcp/box/22/', undefined],
];

describe('the target in a path', () => {
  for (const [url, asked] of table) {
    it(`${url} is ${asked}`, () => assert.equal(targetInPath(url, '/ssh/tcp/'), asked));
  }
});
