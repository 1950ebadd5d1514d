import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import { formatTarget, parseTarget } from '../../../protocol/target.ts';
import type { Principal } from '../../../server/auth/authenticator.ts';
import type { RuleConfig } from '../../../server/config/config.ts';
import { parsePattern } from '../../../protocol/target-pattern.ts';
import type { Policy } from '../../../server/policy/policy.ts';
import { rulesPolicy } from '../../../server/policy/rules.ts';

const targets = [
  { name: 'box', host: '10.0.0.5', port: 2222 },
  { name: 'db', host: 'db.internal.example' },
];

function rule(
  name: string,
  parts: { [K in 'groups' | 'subjects' | 'issuers' | 'targets']?: string[] },
): RuleConfig {
  const { groups = [], subjects = [], issuers = [], targets: patterns = [] } = parts;
  return { name, groups, subjects, issuers, targets: patterns.map(parsePattern) };
}

const rules = [
  rule('dev', { groups: ['dev'], targets: ['box', '*.dev.example'] }),
  rule('bot', { subjects: ['ci-bot'], targets: ['git.example:22'] }),
  rule('partner', { groups: ['ops'], issuers: ['https://partner'], targets: ['db:*'] }),
  rule('both', { groups: ['ops'], subjects: ['root'], targets: ['shared.example'] }),
  rule('root', { subjects: ['root'], targets: ['*:*'] }),
];

interface Who {
  readonly subject?: string;
  readonly issuer?: string;
  readonly groups?: readonly string[];
  readonly targets?: readonly string[];
}

function who({ subject = 'alice', issuer = 'https://id', groups = [], targets }: Who): Principal {
  return {
    subject,
    issuer,
    groups: new Set(groups),
    issuedAt: new Date(0),
    expiresAt: new Date(0),
    ...(targets && { targets }),
  };
}

const dev: Who = { groups: ['dev'] };
const root: Who = { subject: 'root' };

/** Who asks, for what, and the address and rule; or nothing when it is denied. */
const cases: readonly (readonly [Who, string, string?, string?])[] = [
  [dev, 'box', '10.0.0.5:2222', 'dev'],
  [dev, 'BOX:22', '10.0.0.5:2222', 'dev'],
  [dev, 'box:2222'],
  [dev, 'a.dev.example', 'a.dev.example:22', 'dev'],
  [dev, 'dev.example'],
  [dev, 'xdev.example'],
  [dev, 'a.dev.example:80'],
  [dev, '10.0.0.5'],
  [dev, '10.0.0.5:2222'],
  [dev, 'git.example'],
  [{}, 'box'],
  [{ groups: ['DEV'] }, 'box'],
  [{ groups: ['ci-bot'] }, 'git.example'],
  [{ subject: 'dev' }, 'box'],
  [{ subject: 'ci-bot' }, 'git.example', 'git.example:22', 'bot'],
  [{ subject: 'ci-bot' }, 'git.example:80'],
  [{ groups: ['ops'] }, 'db'],
  [{ groups: ['ops'], issuer: 'https://partner' }, 'db', 'db.internal.example:22', 'partner'],
  [{ groups: ['ops'], issuer: 'https://partner' }, 'db:5432', 'db.internal.example:5432', 'partner'],
  [{ groups: ['ops'], issuer: 'https://partner/' }, 'db'],
  [{ groups: ['ops'] }, 'shared.example', 'shared.example:22', 'both'],
  [root, 'shared.example', 'shared.example:22', 'both'],
  [root, 'anything.example:99', 'anything.example:99', 'root'],
  [root, '[fd00::1]:22', '[fd00::1]:22', 'root'],
  // A name with a port of its own is one SSH server, whatever the rule says of ports.
  [root, 'box:2222'],
  // The token's own targets narrow and never widen.
  [{ ...dev, targets: ['box'] }, 'box', '10.0.0.5:2222', 'dev'],
  [{ ...dev, targets: ['box'] }, 'a.dev.example'],
  [{ ...dev, targets: [] }, 'box'],
  [{ ...dev, targets: ['*'] }, 'git.example'],
  [{ ...dev, targets: ['*'] }, 'box', '10.0.0.5:2222', 'dev'],
  [{ ...root, targets: ['*.dev.example:22'] }, 'b.dev.example', 'b.dev.example:22', 'root'],
  [{ ...root, targets: ['*.dev.example:22'] }, 'b.dev.example:23'],
];

/** What a caller is told who may not reach git.example. */
function denialOf(policy: Policy, caller: Who): string {
  try {
    policy.decide(who(caller), parseTarget('git.example'));
  } catch (error) {
    assert.ok(error instanceof TunnelError && error.code === 'TARGET_DENIED');
    return error.message;
  }
  return assert.fail();
}

describe('rulesPolicy()', () => {
  const policy = rulesPolicy({ rules, targets });
  for (const [caller, asked, address, ruleName] of cases) {
    const name = `${JSON.stringify(caller)} asks for ${asked}: ${address ?? 'denied'}`;
    const target = parseTarget(asked);
    it(name, () => {
      const explanation = policy.explain(who(caller), target);
      assert.equal(explanation.allowed, address !== undefined);
      if (address === undefined) {
        assert.throws(() => policy.decide(who(caller), target), { code: 'TARGET_DENIED' });
        return;
      }
      const grant = policy.decide(who(caller), target);
      assert.deepEqual([formatTarget(grant.address), grant.rule], [address, ruleName]);
      assert.deepEqual(explanation.grant, grant);
    });
  }

  it('denies everything without rules', () => {
    const none = rulesPolicy({ rules: [], targets });
    assert.throws(() => none.decide(who(root), parseTarget('box')), { code: 'TARGET_DENIED' });
  });

  it('says the same of every denial, and nothing of rules', () => {
    const said = new Set([dev, {}, { subject: 'ci-bot', targets: [] }].map((each) => denialOf(policy, each)));
    assert.equal(said.size, 1);
    assert.doesNotMatch([...said][0]!, /rule|bot|dev/);
  });

  it('explains every rule, the claim and the address', () => {
    const { steps } = policy.explain(who({ ...dev, targets: ['box'] }), parseTarget('box'));
    assert.deepEqual(
      steps.map(({ what, allows }) => [what, allows]),
      [
        ['dev', true],
        ['bot', false],
        ['partner', false],
        ['both', false],
        ['root', false],
        ["the token's own targets", true],
        ['the address', true],
      ],
    );
  });

  it('opens nothing for a claim that cannot be read', () => {
    assert.throws(() => policy.decide(who({ ...dev, targets: ['*foo'] }), parseTarget('box')), TunnelError);
  });
});
