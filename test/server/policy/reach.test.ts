import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Principal } from '../../../server/auth/authenticator.ts';
import type { RuleConfig } from '../../../server/config/config.ts';
import { formatPattern, parsePattern } from '../../../protocol/target-pattern.ts';
import { reachablePatterns } from '../../../server/policy/reach.ts';

function rule(targets: string[], more: Partial<RuleConfig> = {}): RuleConfig {
  const open = { name: 'a rule', groups: ['dev'], subjects: [], issuers: [] };
  return { ...open, targets: targets.map(parsePattern), ...more };
}

const rules: readonly RuleConfig[] = [
  rule(['box', '*.dev.example:*']),
  rule(['box', 'db:5432'], { groups: ['ops'] }),
  rule(['git.example'], { groups: [], subjects: ['alice'] }),
  rule(['secret'], { issuers: ['https://other.example'] }),
];

const table: [subject: string, groups: string[], targets: string[] | undefined, reaches: string[]][] = [
  ['bob', [], undefined, []],
  ['bob', ['dev'], undefined, ['box:22', '*.dev.example:*']],
  ['alice', ['dev', 'ops'], undefined, ['box:22', '*.dev.example:*', 'db:5432', 'git.example:22']],
  ['bob', ['dev'], [], []],
  ['bob', ['dev'], ['box'], ['box:22']],
  ['bob', ['dev'], ['*:*'], ['box:22', '*.dev.example:*']],
  ['bob', ['dev'], ['*:22'], ['box:22', '*.dev.example:22']],
  [
    'bob',
    ['dev'],
    ['a.dev.example', '*.b.dev.example:1', 'c.example'],
    ['a.dev.example:22', '*.b.dev.example:1'],
  ],
];

describe('what a principal may ask for', () => {
  for (const [subject, groups, targets, reaches] of table) {
    it(`${subject} of ${groups.join(', ') || 'nothing'} with ${JSON.stringify(targets)}: ${reaches.join(' ')}`, () => {
      const principal: Principal = {
        issuer: 'https://id.example',
        subject,
        groups: new Set(groups),
        ...(targets && { targets }),
        issuedAt: new Date(),
        expiresAt: new Date(),
      };
      assert.deepEqual(reachablePatterns(rules, principal).map(formatPattern), reaches);
    });
  }
});
