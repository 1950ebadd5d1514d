import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../../server/config/config.ts';
import { parseConfig, writtenKeys } from '../../../server/config/parse.ts';
import { isCutOff, lostKeys, reloadConfig } from '../../../server/config/reload.ts';

function parse(text: string): Config {
  return parseConfig(text, { file: '/etc/postern/postern.yaml', env: {} });
}

describe('reloadConfig()', () => {
  it('takes everything from a file that has not changed', () => {
    const text = 'tls: { certFile: a, keyFile: b }\nresume: { carrierMinutes: 5 }';
    assert.deepEqual(reloadConfig(parse(text), parse(text)), { config: parse(text), needsRestart: [] });
  });

  it('takes rules, targets, issuers, network, limits, origins, accounts, providers and audit.required', () => {
    const next = parse(`
rules: [{ groups: [dev], targets: [box] }]
targets: { box: { address: 10.0.0.5 } }
issuers: [{ issuer: https://id.example, audience: postern }]
network: { allow: [10.0.0.0/8] }
limits: { tunnels: 5, dialSeconds: 1 }
origins: [https://gw.example]
trustedProxies: [127.0.0.1]
keyFile: other.json
signIn: { accounts: false, providers: [{ name: a, issuer: https://a, clientId: c }] }
audit: { required: false }`);
    assert.deepEqual(reloadConfig(parse(''), next), { config: next, needsRestart: [] });
  });

  it('keeps what only a restart changes, and names its keys', () => {
    const current = parse('');
    const { config, needsRestart } = reloadConfig(
      current,
      parse(`
listen: 127.0.0.1:1
admin: 127.0.0.1:2
control: unix:/x
workers: 2
publicUrl: https://gw.example/ssh/
entries: [http]
store: { file: x }
signIn: { sessionHours: 1, accessTokenMinutes: 1, deviceFlow: true }
resume: { keepMinutes: 1, windowKiB: 64, totalMiB: 1, carrierMinutes: 1 }
audit: { file: x }
log: { level: debug }`),
    );
    assert.deepEqual(config, current);
    assert.deepEqual(needsRestart, [
      'listen',
      'admin',
      'control',
      'workers',
      'publicUrl',
      'entries',
      'store.file',
      'signIn.sessionHours',
      'signIn.accessTokenMinutes',
      'signIn.deviceFlow',
      'resume.keepMinutes',
      'resume.windowKiB',
      'resume.totalMiB',
      'resume.carrierMinutes',
      'audit.file',
      'log.level',
    ]);
  });

  it('takes other certificate files, but does not turn TLS on or off', () => {
    const [off, on, other] = [
      parse(''),
      parse('tls: { certFile: a, keyFile: b }'),
      parse('tls: { certFile: c, keyFile: d }'),
    ];
    assert.deepEqual(reloadConfig(on, other).needsRestart, []);
    assert.deepEqual(reloadConfig(on, other).config.tls, other.tls);
    for (const [current, next] of [
      [on, off],
      [off, on],
    ] as const) {
      const { config, needsRestart } = reloadConfig(current, next);
      assert.deepEqual(config.tls, current.tls);
      assert.equal('tls' in config, 'tls' in current);
      // The default publicUrl follows the listener.
      assert.deepEqual(needsRestart, ['tls', 'publicUrl']);
    }
  });

  it('takes a key in part, and names it all the same', () => {
    const { config, needsRestart } = reloadConfig(parse(''), parse('limits: { preAuthSeconds: 3 }'));
    assert.equal(config.limits.preAuthMs, 3000);
    assert.deepEqual(needsRestart, ['limits.preAuthSeconds']);
  });
});

describe('a file that was cut off', () => {
  const options = { file: '/etc/postern/postern.yaml', env: {} };
  const keysOf = (text: string): ReadonlySet<string> => writtenKeys(text, options);
  const text = `targets: { box: { address: 10.0.0.5 } }
network: { deny: [10.0.0.9/32] }
rules:
  - groups: [dev]
    targets: [box]
  - groups: [ops, dev]
    targets: [box]
trustedProxies: [127.0.0.1]
limits:
  perSubject: 50
`;

  it('shows in the middle of a line, and where keys at the top are gone, wherever it still can be read', () => {
    let readable = 0;
    for (let length = 1; length < text.length - 1; length++) {
      const cut = text.slice(0, length);
      try {
        parseConfig(cut, options);
      } catch {
        continue;
      }
      readable++;
      assert.equal(isCutOff(text, cut, keysOf), true, JSON.stringify(cut.slice(-30)));
    }
    assert.ok(readable > 10, String(readable));
  });

  it('is not what an edit leaves behind', () => {
    const lastRuleGone = 'rules:\n  - groups: [dev]\n    targets: [box]\n';
    const both = `${lastRuleGone}  - groups: [ops]\n    targets: [box]\n`;
    for (const [current, next] of [
      [text, text],
      [text, text.trimEnd()],
      [both, lastRuleGone],
      [both, lastRuleGone.trimEnd()],
      [both.replaceAll('\n', '\r\n'), lastRuleGone.replaceAll('\n', '\r\n').trimEnd()],
      [text, `${text}keyFile: other.json\n`],
      [text, `# one\n${text.replace('perSubject: 50', 'perSubject: 5')}`],
    ] as const)
      assert.equal(isCutOff(current, next, keysOf), false, next);
  });

  it('can have lost network, or who signs people in', () => {
    const current = parse(`${text}signIn: { providers: [{ name: a, issuer: https://a, clientId: c }] }`);
    const lost = (next: string): readonly string[] => lostKeys(current, keysOf(next)).map(({ path }) => path);
    assert.deepEqual(lost(text), ['signIn']);
    assert.deepEqual(lost('rules: []\ntargets: {}\nsignIn: {}'), ['network']);
    assert.deepEqual(lost('rules: []\ntargets: {}\nsignIn: {}\nnetwork: {}'), []);
  });
});
