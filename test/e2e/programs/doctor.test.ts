import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { tunnelErrors } from '../../../protocol/errors.ts';
import { faults } from '../support/doctor-faults.ts';
import { gatewayAt, throughProxy } from '../support/doctor-stages.ts';
import { runDoctor } from '../support/doctor.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { start } from '../support/process.ts';
import { startSquid } from '../support/proxies.ts';
import type { CorporateProxy } from '../support/proxies.ts';
import { openScratch, scratchOf } from '../support/scratch.ts';
import { box, clientCommand } from '../support/ssh.ts';
import { listen, openWorld } from '../support/world.ts';
import type { World } from '../support/world.ts';

describe('postern doctor', needs('nginx', 'haproxy', 'squid', 'openssl', 'sshd', 'ssh', clientBundle), () => {
  const scratch = openScratch();
  let world: World;
  let proxy: CorporateProxy;
  before(async () => {
    world = await openWorld(scratch, 'nginx', {
      settings: { entries: ['relay', 'websocket', 'connect-tcp', 'connect'] },
    });
    proxy = await startSquid(scratch, Number(new URL(world.url).port));
  });

  // Most of their time is waiting for what gives no answer.
  describe('of a fault', { concurrency: 4 }, () => {
    for (const fault of faults) {
      const { what, check, verdict = 'failed', code, says } = fault;
      it(`names ${check} for ${what}`, async (t) => {
        const own = scratchOf(t);
        const { env = {}, args = [box] } = await fault.stage({ scratch, world, proxy }, own);
        const examined = await runDoctor(world, args, { XDG_STATE_HOME: own.path('state'), ...env });
        const finding = examined.finding(check);
        const story = JSON.stringify(examined.findings, undefined, 1);
        assert.equal(finding.verdict, verdict, story);
        assert.equal(finding.code, code, story);
        const words = [finding.what, finding.meaning, finding.advice, ...(finding.lines ?? [])].join('\n');
        if (says !== undefined) assert.match(words, says);
        if (verdict === 'failed') {
          assert.equal(examined.first, finding, story);
          assert.ok(finding.meaning !== undefined, `${check} does not say what it means`);
          assert.ok(finding.advice !== undefined, `${check} does not say what to do`);
        } else assert.equal(examined.first, undefined, story);
        const exit = code === undefined ? 0 : tunnelErrors[code].exit;
        assert.deepEqual([examined.works, examined.exit, examined.outcome.code], [exit === 0, exit, exit]);
      });
    }
  });

  it('has enough faults to be trusted', () => assert.ok(faults.length >= 20));

  it('finds nothing in the way where ssh works, and ssh does', async () => {
    const examined = await runDoctor(world, [box]);
    const offered = examined.findings.filter(({ what }) => !what.endsWith('does not offer it'));
    assert.deepEqual(
      offered.map(({ check, verdict }) => `${check} ${verdict}`),
      [
        'way good',
        'name good',
        'connection good',
        'tls good',
        'http good',
        'gateway good',
        'sign-in good',
        'entry-relay good',
        'entry-websocket good',
        'entry-connect-tcp good',
        'entry-connect unchecked',
        'policy good',
        'target good',
        'ssh good',
        'clock good',
        'half-close good',
        'headers good',
        'latency good',
        'throughput good',
        'idle unchecked',
      ],
    );
    assert.deepEqual([examined.works, examined.outcome.code], [true, 0]);
    assert.equal((await world.ssh().run([box, 'true'])).code, 0);
  });

  it('goes as far as the gateway without a host', async () => {
    const examined = await runDoctor(world, []);
    assert.deepEqual([examined.works, examined.outcome.code, examined.host], [true, 0, undefined]);
    assert.match(examined.finding('policy').what, /you can reach box/);
    assert.equal(examined.finding('target').verdict, 'unchecked');
  });

  it('tries the ways in without a sign-in', async () => {
    const examined = await runDoctor(world, [box], { POSTERN_TOKEN_FILE: undefined });
    for (const entry of ['relay', 'websocket', 'connect-tcp'])
      assert.equal(examined.finding(`entry-${entry}`).verdict, 'good');
  });

  it('prints what is there when it is interrupted', async (t) => {
    const own = scratchOf(t);
    const port = await listen(own, (socket) => {
      socket.resume();
      // The handshake has begun: doctor waits for an answer that never comes.
      socket.once('data', () => doctor.signal('SIGINT'));
    });
    const { env } = world.ssh();
    const doctor = await start(own, clientCommand('doctor', box), {
      port,
      env: { ...env, ...gatewayAt('localhost', port) },
    });
    assert.equal(await doctor.ended, 130);
    const text = doctor.log();
    assert.match(text, /^✓ connection /m);
    assert.match(text, /^– HTTP +not checked: you stopped it$/m);
    assert.match(text, /^No problem was found that stops ssh to box:22/m);
  });

  it('prints ASCII to terminals without UTF-8, and no colours to what is not a terminal', async () => {
    const command = clientCommand('doctor', box);
    const { stdout } = await world.ssh().command(command, { env: { LC_ALL: 'C' } });
    assert.match(stdout.toString('latin1'), /^[\x20-\x7e\n]+$/);
    assert.match(stdout.toString(), /^ok {3}TLS /m);
    const { stdout: rich } = await world.ssh().command(command);
    assert.match(rich.toString(), /^✓ TLS /m);
    assert.ok(!rich.includes(0x1b));
  });

  it('writes a report that holds no secret and no name of the user', async (t) => {
    const own = scratchOf(t);
    const file = own.path('report.txt');
    const { url } = await startSquid(own, Number(new URL(world.url).port));
    const { env } = throughProxy({ scratch, world, proxy }, url);
    const { outcome } = await runDoctor(world, [box, '--report', file], env);
    assert.equal(outcome.code, 0, outcome.stdout.toString());
    const text = readFileSync(file, 'utf8');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    for (const part of [
      'It contains:',
      'It contains no',
      'gw.example',
      'box:22',
      'through the proxy http://127.0.0.1',
    ])
      assert.ok(text.includes(part), part);
    const token = readFileSync(world.gateway.tokenFile, 'utf8').trim();
    const home = world.ssh().env['HOME']!;
    for (const secret of [token, token.slice(0, 20), 'correct', 'alice', 'tester', home])
      assert.ok(!text.includes(secret), secret);
    assert.ok(!outcome.stdout.includes('correct'));
  });

  it('needs a gateway, like every command', async () => {
    const command = clientCommand('doctor', box);
    const { code, stderr } = await world.ssh().command(command, { env: { POSTERN_GATEWAY: undefined } });
    assert.equal(code, 78);
    assert.match(stderr.toString(), /GATEWAY_UNSET/);
  });
});
