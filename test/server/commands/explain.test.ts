import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { explain } from '../../../server/commands/explain.ts';
import { startDnsServer } from '../dial/dns-server.ts';
import { directoryWith, run } from './bench.ts';

async function bench(t: TestContext) {
  const dns = await startDnsServer(t, (name) => {
    if (name === 'inside.example') return { addresses: ['127.0.0.1', '127.0.0.9'] };
    return name === 'outside.example' ? { addresses: ['169.254.169.254'] } : 'NXDOMAIN';
  });
  const at = await directoryWith(t, {
    'alice.json': '{"sub":"alice","groups":["dev"]}',
    'narrow.json': '{"sub":"alice","groups":["dev"],"targets":["box"]}',
    'bot.json': '{"iss":"https://ci.example","sub":"bot","roles":"dev"}',
    'stranger.json': '{"iss":"https://evil.example","sub":"alice","groups":["dev"]}',
    'nobody.json': '{"groups":["dev"]}',
    'postern.yaml': `
issuers: [{ issuer: https://ci.example, audience: postern, groupsClaim: roles }]
targets: { box: { address: "127.0.0.1:2222" }, self: { address: 127.0.0.1:8022 } }
rules:
  - { groups: [ops], targets: ["*:*"] }
  - { groups: [dev], targets: [box, self, "*.example"] }
network: { allow: [127.0.0.1/32], nameServers: ["${dns.address}"] }
`,
  });
  return (claims: string, ...args: string[]) =>
    run(explain, ['--config', join(at, 'postern.yaml'), '--as', join(at, claims), ...args]);
}

describe('postern-gateway explain', () => {
  const cases: readonly (readonly [string, string, number, RegExp])[] = [
    ['alice.json', 'box', 0, /box:22 is allowed by rule 2 \(postern\.yaml:6\)/],
    ['alice.json', 'box:2222', 77, /denied \(TARGET_DENIED\)/],
    ['alice.json', 'other', 77, /denied \(TARGET_DENIED\)/],
    ['alice.json', 'self', 77, /denied by the network policy \(ADDRESS_DENIED\)/],
    ['alice.json', 'inside.example', 0, /yes {2}127\.0\.0\.1: .*\n {2}no {3}127\.0\.0\.9: /],
    ['alice.json', 'outside.example', 77, /no {3}169\.254\.169\.254: /],
    ['alice.json', 'nowhere.example', 69, /NAME_NOT_FOUND/],
    ['narrow.json', 'box', 0, /the token's own targets: pattern box:22/],
    ['narrow.json', 'inside.example', 77, /the token's own targets: no pattern/],
    ['bot.json', 'box', 0, /bot \(https:\/\/ci\.example\), groups: dev/],
    ['stranger.json', 'box', 2, /^$/],
    ['nobody.json', 'box', 2, /^$/],
    ['missing.json', 'box', 2, /^$/],
    ['alice.json', 'http://box', 2, /^$/],
  ];
  for (const [claims, target, code, expected] of cases) {
    it(`${claims} to ${target} exits ${code}`, async (t) => {
      const ran = await (await bench(t))(claims, target);
      assert.equal(ran.code, code, ran.stderr);
      assert.match(ran.stdout, expected);
    });
  }

  it('wants claims and one target', async () => {
    assert.equal((await run(explain, ['box'])).code, 2);
    assert.equal((await run(explain, ['--as', 'x'])).code, 2);
    assert.equal((await run(explain, ['--as', 'x', 'box', 'more'])).code, 2);
  });
});
