import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { ConfigError } from '../../../server/config/config-error.ts';
import type { Config } from '../../../server/config/config.ts';
import { defaultConfigText } from '../../../server/config/sample.ts';
import { parseConfig } from '../../../server/config/parse.ts';

const numRuns = Number(process.env['POSTERN_FUZZ_RUNS'] ?? 150);

type Env = Record<string, string>;

function parse(text: string, env: Env = {}): Config {
  return parseConfig(text, { file: '/etc/postern/postern.yaml', env });
}

/** Each problem as `line path` or, from the environment, `name path`. */
function problems(text: string, env: Env = {}): readonly string[] {
  try {
    parse(text, env);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.problems.map(({ file, line, path }) => `${line ?? file} ${path}`.trimEnd());
  }
}

describe('parseConfig() reads', () => {
  it('an empty file as the defaults', () => {
    const config = parse('');
    assert.deepEqual(config.listen, { kind: 'tcp', host: '127.0.0.1', port: 8022 });
    assert.equal(config.publicUrl.href, 'http://127.0.0.1:8022/ssh/');
    assert.equal(config.keyFile, '/etc/postern/postern-key.json');
    assert.deepEqual(config.audit, { file: '/etc/postern/audit.jsonl', required: true });
    assert.deepEqual(config.entries, ['relay', 'websocket', 'connect-tcp', 'connect', 'http']);
    assert.deepEqual([config.rules, config.issuers, config.targets, config.trustedProxies], [[], [], [], []]);
    assert.deepEqual(config.limits, {
      tunnels: 8e3,
      perSubject: 100,
      perAddress: 200,
      preAuthMs: 1e4,
      dialMs: 1e4,
      sessionMs: 432e5,
      graceMs: 3e4,
    });
  });

  it('what survives a restart, and signing in, by default', () => {
    const config = parse('');
    assert.equal(config.store.file, '/etc/postern/postern.db');
    assert.deepEqual(config.control, { kind: 'unix', path: '/etc/postern/postern-control.sock' });
    assert.deepEqual(config.signIn, {
      accounts: true,
      sessionMs: 432e5,
      accessTokenMs: 6e5,
      deviceFlow: false,
      providers: [],
    });
  });

  it('identity providers, and conditions on claims', () => {
    const config = parse(`
control: unix:/run/postern/control.sock
signIn:
  sessionHours: 8
  providers:
    - { name: corp, issuer: https://id.example, clientId: us, clientSecretFile: s.txt, groups: { eng: dev } }
    - { name: b, title: B, issuer: https://b.example/t/1, clientId: c, subjectClaim: email, subjectPrefix: 'b/x:', recheck: true }
issuers:
  - issuer: https://ci.example
    audience: postern
    claims: { repository: org/one, ref: [main, 1], protected: true }
rules: [{ groups: [dev], issuers: [http://127.0.0.1:8022/ssh/oauth], targets: ['*'] }]`);
    assert.equal(config.control.path, '/run/postern/control.sock');
    const common = { scopes: ['openid', 'profile'], groupsClaim: 'groups' };
    assert.deepEqual(config.signIn.providers, [
      {
        ...common,
        name: 'corp',
        title: 'corp',
        issuer: 'https://id.example',
        clientId: 'us',
        clientSecretFile: '/etc/postern/s.txt',
        subjectClaim: 'sub',
        groups: new Map([['eng', 'dev']]),
        recheck: false,
        subjectPrefix: 'corp:',
      },
      {
        ...common,
        name: 'b',
        title: 'B',
        issuer: 'https://b.example/t/1',
        clientId: 'c',
        subjectClaim: 'email',
        recheck: true,
        subjectPrefix: 'b/x:',
      },
    ]);
    assert.deepEqual(config.issuers[0]!.claims, [
      { claim: 'repository', values: ['org/one'] },
      { claim: 'ref', values: ['main', 1] },
      { claim: 'protected', values: [true] },
    ]);
  });

  it('the default file', () => {
    const config = parse(defaultConfigText());
    assert.deepEqual(config.targets, [{ name: 'box', host: '127.0.0.1', port: 22 }]);
    assert.deepEqual(config.network.allow, ['127.0.0.1/32']);
    assert.match(config.rules[0]!.name, /^rule 1 \(postern\.yaml:\d+\)$/);
  });

  it('the whole example', () => {
    const config = parse(`
listen: unix:/run/postern.sock
admin: "[::1]:9464"
publicUrl: https://gw.example/ssh/
tls: { certFile: cert.pem, keyFile: /keys/key.pem }
trustedProxies: [127.0.0.0/8, "::1"]
entries: [connect, websocket]
origins: [https://gw.example]
issuers:
  - issuer: https://id.example
    audience: postern
    jwksUrl: https://id.example/jwks
    typ: at+jwt
    maxLifetimeHours: 0.5
  - { issuer: ci, audience: postern, jwksFile: ./jwks.json, groupsClaim: roles, algorithms: [PS256] }
  - { issuer: https://other.example, audience: postern }
targets:
  Box: { address: "127.0.0.1:2222" }
  db: { address: db.internal.example }
  six: { address: "[fd00::5]:22" }
rules:
  - { groups: [dev], targets: [box, "*.dev.example:22", "*:*"] }
  - name: bots
    subjects: [ci-bot]
    issuers: [ci, https://gw.example/ssh/]
    targets: ["git.example:22"]
network: { allow: [10.0.0.0/8, 127.0.0.1], deny: ["fd00::/8"], nameServers: ["10.0.0.53", "[fd00::53]:5353", "::1"] }
limits: { tunnels: 5, graceSeconds: 0, sessionHours: 0.25, dialSeconds: 0.5 }
audit: { file: ../audit.jsonl, required: false }
log: { level: debug }
`);
    assert.deepEqual(config.listen, { kind: 'unix', path: '/run/postern.sock' });
    assert.deepEqual(config.tls, { certFile: '/etc/postern/cert.pem', keyFile: '/keys/key.pem' });
    assert.deepEqual(config.trustedProxies, ['127.0.0.0/8', '::1/128']);
    assert.deepEqual(
      config.issuers.map(({ keys, maxLifetimeMs, groupsClaim }) => [keys.kind, maxLifetimeMs, groupsClaim]),
      [
        ['url', 1_800_000, 'groups'],
        ['file', 86_400_000, 'roles'],
        ['discovery', 86_400_000, 'groups'],
      ],
    );
    assert.deepEqual(config.targets, [
      { name: 'box', host: '127.0.0.1', port: 2222 },
      { name: 'db', host: 'db.internal.example' },
      { name: 'six', host: 'fd00::5', port: 22 },
    ]);
    assert.deepEqual(
      config.rules.map(({ name }) => name),
      ['rule 1 (postern.yaml:22)', 'bots (postern.yaml:23)'],
    );
    assert.deepEqual(config.rules[0]!.targets[2], { host: '*', port: '*' });
    assert.deepEqual(
      [config.limits.graceMs, config.limits.sessionMs, config.limits.dialMs],
      [0, 900_000, 500],
    );
    assert.equal(config.audit.file, '/etc/audit.jsonl');
  });

  it('overrides of the environment, in both spellings, sections before their keys', () => {
    const config = parse('limits: { tunnels: 5 }\ntargets: { box: { address: 10.0.0.5 } }', {
      POSTERN__LIMITS__PER_SUBJECT: '7',
      POSTERN__LIMITS__PERADDRESS: '8',
      postern__limits__dial_seconds: '2',
      POSTERN__LIMITS: '{ tunnels: 6, preAuthSeconds: 3 }',
      POSTERN__LISTEN: '[::1]:0',
      POSTERN__LOG__LEVEL: 'silent',
      POSTERN__TRUSTED_PROXIES: '[10.0.0.0/8]',
      POSTERN__AUDIT__REQUIRED: 'false',
      POSTERN__TARGETS__BOX__ADDRESS: '10.0.0.6:22',
      POSTERN__TARGETS__OTHER_BOX: '{ address: 10.0.0.7 }',
      POSTERN__RULES: '[{ groups: [dev], targets: [box] }]',
      POSTERN__KEYFILE: 'true',
      POSTERN_TOKEN: 'not ours',
      POSTERN: 'nor this',
    });
    assert.deepEqual(
      [
        config.limits.tunnels,
        config.limits.perSubject,
        config.limits.perAddress,
        config.limits.dialMs,
        config.limits.preAuthMs,
      ],
      [6, 7, 8, 2000, 3000],
    );
    assert.deepEqual(config.listen, { kind: 'tcp', host: '::1', port: 0 });
    assert.equal(config.audit.required, false);
    assert.equal(config.keyFile, '/etc/postern/true');
    assert.deepEqual(config.targets, [
      { name: 'box', host: '10.0.0.6', port: 22 },
      { name: 'other-box', host: '10.0.0.7' },
    ]);
    assert.equal(config.rules[0]!.name, 'rule 1 (POSTERN__RULES)');
  });
});

describe('parseConfig() reports', () => {
  const cases: readonly (readonly [string, string, readonly string[], Env?])[] = [
    ['an unknown key', 'listn: x', ['1 listn']],
    [
      'an unknown key in a list',
      'rules:\n  - { groups: [a], targets: [b.c], target: x }',
      ['2 rules[0].target'],
    ],
    ['a key named twice', 'listen: 127.0.0.1:1\nlisten: 127.0.0.1:2', ['2']],
    ['broken YAML', 'listen: [', ['1']],
    ['two documents', 'listen: 127.0.0.1:1\n---\nadmin: 127.0.0.1:2', ['2']],
    ['an unknown tag', 'listen: !secret x', ['1']],
    ['a JavaScript tag', 'listen: !!js/function x', ['1']],
    ['a list instead of settings', '- a', ['1']],
    ['text instead of settings', 'postern', ['1']],
    ['__proto__ as a key', 'targets:\n  __proto__: { address: 10.0.0.5 }', ['2']],
    ['constructor as a key', 'constructor: {}', ['1 constructor']],
    ['a merge key', 'a: &a { x: 1 }\nlimits: { <<: *a }', ['1 a', '2 limits.<<']],
    ['an empty section', 'limits:', ['1 limits']],
    ['a listen without port', 'listen: 127.0.0.1', ['1 listen']],
    ['a listen that is a number', 'listen: 8022', ['1 listen']],
    ['a listen by name', 'listen: gw.example:8022', ['1 listen']],
    ['a listen with a port too high', 'listen: 127.0.0.1:65536', ['1 listen']],
    ['a listen with a short address', 'listen: 127.1:8022', ['1 listen']],
    ['admin on the public door', 'listen: 127.0.0.1:1\nadmin: localhost:1', ['2 admin']],
    ['no publicUrl for an open door', 'listen: 0.0.0.0:8022', ['1 publicUrl']],
    ['no publicUrl for a unix socket', 'listen: unix:/run/x', ['1 publicUrl']],
    ['http for others', 'publicUrl: http://gw.example/ssh/', ['1 publicUrl']],
    ['a publicUrl without slash', 'publicUrl: https://gw.example/ssh', ['1 publicUrl']],
    ['a publicUrl with a query', 'publicUrl: https://gw.example/ssh/?x', ['1 publicUrl']],
    ['a publicUrl with a password', 'publicUrl: https://a:b@gw.example/ssh/', ['1 publicUrl']],
    ['a publicUrl of another kind', 'publicUrl: ftp://127.0.0.1/ssh/', ['1 publicUrl']],
    ['half a tls pair', 'tls: { certFile: x }', ['1 tls.keyFile']],
    ['a proxy range that is everybody', 'trustedProxies: [0.0.0.0/0]', ['1 trustedProxies[0]']],
    ['a proxy by name', 'trustedProxies: [localhost]', ['1 trustedProxies[0]']],
    ['an unknown entry', 'entries: [websockets]', ['1 entries[0]']],
    ['no entries', 'entries: []', ['1 entries']],
    ['an origin with a path', 'origins: [https://gw.example/]', ['1 origins[0]']],
    [
      'ranges that are none',
      'network:\n  allow: [10.0.0.0/33, 10.0.0.1/8]\n  deny: [box]',
      ['2 network.allow[0]', '2 network.allow[1]', '3 network.deny[0]'],
    ],
    ['a name server by name', 'network: { nameServers: [ns.example] }', ['1 network.nameServers[0]']],
    [
      'limits out of range',
      'limits: { tunnels: 0, perSubject: 1.5, dialSeconds: -1, sessionHours: 501, graceSeconds: .inf }',
      [
        '1 limits.tunnels',
        '1 limits.perSubject',
        '1 limits.dialSeconds',
        '1 limits.sessionHours',
        '1 limits.graceSeconds',
      ],
    ],
    ['an issuer without what it needs', 'issuers:\n  - {}', ['2 issuers[0].issuer', '2 issuers[0].audience']],
    [
      'a symmetric algorithm',
      'issuers: [{ issuer: https://a, audience: b, algorithms: [HS256] }]',
      ['1 issuers[0].algorithms[0]'],
    ],
    [
      'keys over http',
      'issuers: [{ issuer: https://a, audience: b, jwksUrl: http://a/jwks }]',
      ['1 issuers[0].jwksUrl'],
    ],
    [
      'keys from two places',
      'issuers: [{ issuer: https://a, audience: b, jwksUrl: https://a/jwks, jwksFile: x }]',
      ['1 issuers[0]'],
    ],
    ['discovery over http', 'issuers: [{ issuer: http://id.example, audience: b }]', ['1 issuers[0]']],
    ['discovery from what is no URL', 'issuers: [{ issuer: ci, audience: b }]', ['1 issuers[0]']],
    [
      'an issuer listed twice',
      'issuers:\n  - &a { issuer: https://a, audience: b }\n  - *a',
      ['3 issuers[1]'],
    ],
    [
      'the gateway as an issuer',
      'publicUrl: https://gw/ssh/\nissuers: [{ issuer: https://gw/ssh/, audience: b }]',
      ['2 issuers[0]'],
    ],
    ['a target address that is none', 'targets:\n  box: { address: "127.1:22" }', ['2 targets.box.address']],
    ['a target at localhost', 'targets:\n  box: { address: localhost }', ['2 targets.box.address']],
    ['a target name that is none', 'targets:\n  "a b": { address: 10.0.0.5 }', ['2 targets.a b']],
    ['a target name with a port', 'targets:\n  "box:22": { address: 10.0.0.5 }', ['2 targets.box:22']],
    [
      'a target name that is an address',
      'targets:\n  10.0.0.5: { address: 10.0.0.6 }',
      ['2 targets.10.0.0.5'],
    ],
    [
      'target names that differ in case',
      'targets:\n  box: { address: 10.0.0.5 }\n  BOX: { address: 10.0.0.6 }',
      ['3 targets.BOX'],
    ],
    ['a rule for nobody', 'rules:\n  - { targets: [a.example] }', ['2 rules[0]']],
    ['a rule for nothing', 'rules:\n  - { groups: [dev], targets: [] }', ['2 rules[0].targets']],
    [
      'a pattern that is none',
      'rules:\n  - { groups: [dev], targets: [a.example, "*a.example"] }',
      ['2 rules[0].targets[1]'],
    ],
    [
      'a name that nothing stands for',
      'rules:\n  - { groups: [dev], targets: [box] }',
      ['2 rules[0].targets[0]'],
    ],
    [
      'a port that a target does not serve',
      'targets: { box: { address: "10.0.0.5:2222" } }\nrules:\n  - { groups: [dev], targets: ["box:2222"] }',
      ['3 rules[0].targets[0]'],
    ],
    [
      'a rule for an issuer not listed',
      'rules:\n  - { groups: [dev], issuers: [https://x], targets: [a.b] }',
      ['2 rules[0].issuers[0]'],
    ],
    [
      'problems between settings beside those within',
      'log: 1\nrules:\n  - { groups: 1, targets: [a.b] }\n  - { targets: [box] }',
      ['1 log', '3 rules[0].groups', '4 rules[1]', '4 rules[1].targets[0]'],
    ],
    ['a control socket that is none', 'control: 127.0.0.1:1', ['1 control']],
    ['a control socket without a path', "control: 'unix:'", ['1 control']],
    [
      'a condition that is no value',
      'issuers:\n  - { issuer: https://x, audience: a, claims: { a: { b: 1 } } }',
      ['2 issuers[0].claims.a'],
    ],
    [
      'a condition that nothing meets',
      'issuers:\n  - { issuer: https://x, audience: a, claims: { a: [] } }',
      ['2 issuers[0].claims.a'],
    ],
    [
      'a provider over http',
      'signIn:\n  providers:\n    - { name: a, issuer: http://id.example, clientId: c }',
      ['3 signIn.providers[0].issuer'],
    ],
    [
      'a provider whose name is no part of a path',
      'signIn:\n  providers:\n    - { name: A/b, issuer: https://x, clientId: c }',
      ['3 signIn.providers[0].name'],
    ],
    [
      'a provider that is listed twice',
      'signIn:\n  providers:\n    - { name: a, issuer: https://x, clientId: c }\n    - { name: a, issuer: https://y, clientId: c, subjectPrefix: "b:" }',
      ['4 signIn.providers[1]'],
    ],
    [
      'providers that could share a subject',
      'signIn:\n  providers:\n    - { name: a, issuer: https://x, clientId: c, subjectPrefix: "p:" }\n    - { name: b, issuer: https://y, clientId: c, subjectPrefix: "p:q:" }',
      ['4 signIn.providers[1]'],
    ],
    [
      'a provider that could share a subject with an account',
      'signIn:\n  providers:\n    - { name: a, issuer: https://x, clientId: c, subjectPrefix: "" }',
      ['3 signIn.providers[0]'],
    ],
    [
      "the gateway's own sign-in among the issuers",
      'publicUrl: https://gw.example/ssh/\nissuers:\n  - { issuer: https://gw.example/ssh/oauth, audience: postern }',
      ['3 issuers[0]'],
    ],
    ['control characters', 'keyFile: "a\\nb"', ['1 keyFile']],
    [
      'too many aliases',
      `a: &a [x]\n${Array.from({ length: 101 }, (_, at) => `b${at}: &b${at} [*a, *a]`).join('\n')}\nc: [${Array.from({ length: 101 }, (_, at) => `*b${at}`).join(', ')}]`,
      ['/etc/postern/postern.yaml'],
    ],
    [
      'an override that names nothing',
      '',
      ['POSTERN__LIMIT', 'POSTERN__LIMITS__', 'POSTERN__LISTEN__X', 'POSTERN__RULES__0'],
      { POSTERN__LIMIT: '1', POSTERN__LIMITS__: '1', POSTERN__LISTEN__X: '1', POSTERN__RULES__0: 'x' },
    ],
    [
      'an override that is wrong',
      '',
      ['POSTERN__LIMITS__TUNNELS limits.tunnels'],
      { POSTERN__LIMITS__TUNNELS: 'many' },
    ],
    ['an override that is no YAML', '', ['POSTERN__LIMITS limits'], { POSTERN__LIMITS: '{' }],
    [
      'two overrides of one setting',
      '',
      ['POSTERN__LIMITS__PER_SUBJECT limits.perSubject'],
      { POSTERN__LIMITS__PERSUBJECT: '1', POSTERN__LIMITS__PER_SUBJECT: '2' },
    ],
    ['an override inside what is no section', 'limits: 5', ['1 limits'], { POSTERN__LIMITS__TUNNELS: '5' }],
  ];
  for (const [name, text, expected, env] of cases) {
    it(name, () => {
      assert.deepEqual([...problems(text, env)].toSorted(), [...expected].toSorted());
    });
  }

  it('the nearest key for one that is misspelled', () => {
    assert.throws(() => parse('limits: { perSubjct: 1 }'), /did you mean perSubject\?/);
  });

  it('a rule of exact name through targets in any case, and of any port', () => {
    assert.deepEqual(
      problems(
        'targets: { Box: { address: "10.0.0.5:2222" } }\nrules: [{ groups: [a], targets: [BOX, "box:*"] }]',
      ),
      [],
    );
  });

  it('each problem on one line with file and line', () => {
    assert.throws(
      () => parse('listen: 1\nlimits: { tunnels: 0 }'),
      (error: ConfigError) => {
        const lines = error.format().split('\n');
        assert.deepEqual(
          lines.map((line) => line.split(': ').slice(0, 2).join(' ')),
          ['/etc/postern/postern.yaml:1 listen', '/etc/postern/postern.yaml:2 limits.tunnels'],
        );
        return true;
      },
    );
  });
});

/** Any input gives a config or a ConfigError that says why, never anything else. */
function outcome(text: string, env: Env = {}): void {
  try {
    parse(text, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.ok(error.problems.length > 0);
  }
}

describe('parseConfig() on any text', () => {
  it('gives a config or a ConfigError', () => {
    const lines = defaultConfigText().split('\n');
    const scrap = fc.constantFrom(
      '[',
      ']',
      '{',
      '}',
      ': ',
      '- ',
      '&a ',
      '*a',
      '!!',
      '|',
      '"',
      "'",
      '\t',
      '\0',
      '~',
      '<<',
      '__proto__',
      '\u2028',
    );
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 200 }),
      fc
        .array(fc.oneof(fc.constantFrom(...lines), scrap), { maxLength: 30 })
        .map((parts) => parts.join('\n')),
      fc.array(fc.oneof(fc.constantFrom(...lines), scrap), { maxLength: 30 }).map((parts) => parts.join('')),
      fc.json(),
    );
    fc.assert(
      fc.property(text, (text) => outcome(text)),
      { numRuns },
    );
  });

  it('and any values under the keys there are', () => {
    const names = [
      'listen',
      'admin',
      'publicUrl',
      'rules',
      'targets',
      'issuers',
      'network',
      'limits',
      'tls',
      'log',
      'audit',
    ];
    const inner = fc.constantFrom(
      'groups',
      'targets',
      'address',
      'issuer',
      'audience',
      'allow',
      'file',
      'level',
      '__proto__',
      'x',
    );
    const value = fc.oneof(
      fc.jsonValue(),
      fc.dictionary(inner, fc.jsonValue()),
      fc.array(fc.dictionary(inner, fc.jsonValue())),
    );
    const settings = fc.dictionary(fc.constantFrom(...names), value);
    fc.assert(
      fc.property(settings, (settings) => outcome(JSON.stringify(settings))),
      { numRuns },
    );
  });

  it('and any environment', () => {
    const name = fc.array(
      fc.constantFrom(
        'LIMITS',
        'TUNNELS',
        'RULES',
        'TARGETS',
        'BOX',
        'ADDRESS',
        '_',
        '__',
        'proto',
        'LISTEN',
      ),
      { maxLength: 5 },
    );
    const env = fc.dictionary(
      name.map((parts) => `POSTERN__${parts.join('__')}`),
      fc.oneof(fc.string(), fc.json()),
    );
    fc.assert(
      fc.property(env, (env) => outcome('', env)),
      { numRuns },
    );
  });

  it('survives deep brackets', () => {
    outcome('['.repeat(20_000));
    outcome('a: {'.repeat(5000));
  });

  it('refuses a file of more than 1 MiB', () => {
    assert.deepEqual(problems(`# ${'x'.repeat(1024 * 1024)}`), ['/etc/postern/postern.yaml']);
  });
});
