import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../../server/config/config.ts';
import { parseConfig } from '../../../server/config/parse.ts';
import { PolicyRecheck } from '../../../server/gateway/recheck.ts';
import { Sessions } from '../../../server/session/sessions.ts';
import type { Session } from '../../../server/session/sessions.ts';

const issuer = 'http://127.0.0.1:8022/ssh/';

function config(more: string): Config {
  return parseConfig(`rules: [{ groups: [dev], targets: ['*.example'] }]\n${more}`, { file: 'x', env: {} });
}

/** Sessions as they are after the target was dialled. */
function open(sessions: Sessions, count: number, host = 'a.example', from = issuer): Session[] {
  return Array.from({ length: count }, (_, at) => {
    const session = sessions.begin({
      id: `${host} ${at}`,
      entry: 'connect',
      requested: host,
      remoteAddress: '192.0.2.1',
    });
    session.identified({
      issuer: from,
      subject: 'alice',
      groups: new Set(['dev']),
      issuedAt: 0,
      expiresAt: Number.MAX_SAFE_INTEGER,
    } as unknown as Parameters<Session['identified']>[0]);
    const target = { host, port: 22 };
    session.granted({ target, address: target, rule: 'rule 1' });
    session.dialled({ host: '10.0.0.5', port: 22 }, 1);
    return session;
  });
}

function start() {
  const lines: object[] = [];
  const recheck: PolicyRecheck = new PolicyRecheck(() => sessions, {
    info: (line: object) => void lines.push(line),
  });
  const sessions = new Sessions([recheck]);
  return { recheck, sessions, lines };
}

const reasons = (sessions: readonly Session[]): ReadonlySet<unknown> =>
  new Set(sessions.map(({ signal }) => signal.reason as unknown));

describe('PolicyRecheck', () => {
  it('leaves what is allowed, and counts what it ends', async () => {
    const { recheck, sessions, lines } = start();
    const kept = open(sessions, 3);
    const ended = open(sessions, 2, 'b.test');
    await recheck.run(config(''));
    assert.deepEqual([...reasons(kept)], [undefined]);
    assert.deepEqual([...reasons(ended)], ['POLICY']);
    assert.deepEqual(lines, [{ ended: 2 }]);
  });

  for (const [what, more] of [
    ['a network policy that denies the address', 'network: { deny: [10.0.0.0/8] }'],
    ['another address of the target', 'targets: { a.example: { address: 10.0.0.6 } }'],
  ] as const)
    it(`ends tunnels for ${what}`, async () => {
      const { recheck, sessions } = start();
      const ended = open(sessions, 1);
      await recheck.run(config(more));
      assert.deepEqual([...reasons(ended)], ['POLICY']);
    });

  it('ends tunnels of an issuer that is no longer trusted', async () => {
    const { recheck, sessions } = start();
    const ended = open(sessions, 1, 'a.example', 'https://ci.example');
    await recheck.run(config(`issuers: [{ issuer: 'https://ci.example', audience: postern }]`));
    assert.deepEqual([...reasons(ended)], [undefined]);
    await recheck.run(config(''));
    assert.deepEqual([...reasons(ended)], ['POLICY']);
  });

  it('keeps them where it is to', async () => {
    const { recheck, sessions, lines } = start();
    const kept = open(sessions, 1, 'b.test');
    await recheck.run(config('reload: { recheck: keep }'));
    assert.deepEqual([...reasons(kept)], [undefined]);
    assert.deepEqual(lines, []);
  });

  it('ends those too that were decided on before it, and open after it', async () => {
    const { recheck, sessions } = start();
    await recheck.run(config(''));
    const [later] = open(sessions, 1, 'b.test');
    later!.opened();
    assert.equal(later!.signal.reason, 'POLICY');
    const [allowed] = open(sessions, 1);
    allowed!.opened();
    assert.equal(allowed!.signal.aborted, false);
  });

  it('gives the event loop time between 8,000 of them', async () => {
    const { recheck, sessions, lines } = start();
    const all = open(sessions, 8000, 'b.test');
    const rules = Array.from({ length: 300 }, (_, at) => `{ groups: [g${at}], targets: ['h${at}.example'] }`);
    let turns = 0;
    let isDone = false;
    const turn = (): void => {
      turns++;
      if (!isDone) setImmediate(turn);
    };
    setImmediate(turn);
    await recheck.run(parseConfig(`rules: [${rules.join(', ')}]`, { file: 'x', env: {} }));
    isDone = true;
    assert.ok(turns > 3, `${turns}`);
    assert.deepEqual([...reasons(all)], ['POLICY']);
    assert.deepEqual(lines, [{ ended: 8000 }]);
  });
});
