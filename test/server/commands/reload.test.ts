import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { relay } from '../../../client/entry/resumable.ts';
import { Secret } from '../../../protocol/secret.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { auditOf, audited, logs, startNext } from '../../e2e/support/generations.ts';
import { eventually, run } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { startEcho } from '../support/gateway-parts.ts';
import { rawUpgrade } from '../support/peers.ts';

const scratch = openScratch();

function open(gateway: Gateway, target = 'echo:22'): Promise<Socket> {
  const token = readFileSync(gateway.tokenFile, 'utf8').trim();
  const head = `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`;
  return rawUpgrade(gateway.port, head);
}

async function assertEchoes(tunnel: Socket): Promise<void> {
  tunnel.write('still here?');
  assert.equal(String((await once(tunnel, 'data'))[0]), 'still here?');
}

/** Resolves when it is closed, by a reset too. */
function closeOf(tunnel: Socket): Promise<void> {
  return new Promise((resolve) => tunnel.on('error', () => {}).once('close', () => resolve()));
}

interface Settings {
  readonly [key: string]: unknown;
  readonly targets: object;
  readonly rules: unknown;
}

function settingsOf({ configFile }: Gateway): Settings {
  return JSON.parse(readFileSync(configFile, 'utf8')) as Settings;
}

/** Waits for the outcome of one more reload, and returns its line of the log. */
async function reload({ running }: Pick<Gateway, 'running'>): Promise<Record<string, unknown>> {
  const outcomes = (): string[] =>
    running
      .log()
      .split('\n')
      .filter((line) => /"msg":"(configuration reloaded|the configuration was not)/.test(line));
  const before = outcomes().length;
  running.signal('SIGHUP');
  await eventually(() => outcomes().length > before, 'the outcome of the reload');
  return JSON.parse(outcomes().at(-1)!) as Record<string, unknown>;
}

/** Asserts that a reload changes nothing, and that the log says why. */
async function assertRefused(gateway: Gateway, why: RegExp): Promise<void> {
  const { msg, err } = await reload(gateway);
  assert.match(String(msg), /not reloaded/);
  assert.match((err as { message: string }).message, why);
}

describe('a reload', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let gateway: Gateway;
  let good: string;
  before(async () => {
    echo = await startEcho();
    gateway = await startGateway(scratch, { targets: { echo: `127.0.0.1:${echo.port}` } });
    good = readFileSync(gateway.configFile, 'utf8');
  });
  after(() => echo.close());

  it('of a file that cannot be whole changes nothing, and says why', async () => {
    const { configFile } = gateway;
    const tunnel = await open(gateway);
    const { rules: _, ...withoutRules } = settingsOf(gateway);
    const { network: _network, ...withoutNetwork } = settingsOf(gateway);
    const { targets: _targets, ...withoutTargets } = { ...settingsOf(gateway), rules: [] };
    for (const [text, why] of [
      ['', /is empty/],
      ['# rules: []\n---\n', /is empty/],
      ['\0'.repeat(4096), /./],
      [JSON.stringify(withoutRules), /rules: is no longer there, but is in force with 1.*write rules: \[\]/],
      [JSON.stringify(withoutTargets), /targets: is no longer there.*write targets: \{\}/],
      [good.slice(0, good.length / 2), /./],
      [JSON.stringify(withoutNetwork), /network: is no longer there.*write network: \{\}/],
      [`# ${'x'.repeat(5 * 1024 * 1024)}\n${good}`, /larger than/],
    ] as const) {
      writeFileSync(configFile, text);
      await assertRefused(gateway, why);
    }
    truncateSync(configFile, 0);
    await assertRefused(gateway, /is empty/);
    rmSync(configFile);
    await assertRefused(gateway, /no such file/);
    mkdirSync(configFile);
    await assertRefused(gateway, /is a directory/);
    rmSync(configFile, { recursive: true });
    assert.equal((await run(['mkfifo', configFile])).code, 0);
    await assertRefused(gateway, /not a regular file/);
    rmSync(configFile);
    writeFileSync(configFile, good);
    await assertEchoes(tunnel);
    tunnel.destroy();
    (await open(gateway)).destroy();
  });

  it('reads a file again that is being written', async () => {
    writeFileSync(gateway.configFile, '{}');
    const outcome = reload(gateway);
    // Half of it, and then all of it, as a slow copy does.
    await new Promise((resolve) => setTimeout(resolve, 30));
    writeFileSync(gateway.configFile, good.slice(0, 200));
    await new Promise((resolve) => setTimeout(resolve, 30));
    writeFileSync(gateway.configFile, good);
    assert.equal((await outcome)['msg'], 'configuration reloaded');
  });

  it('says how many rules and targets have changed', async () => {
    const settings = settingsOf(gateway);
    const next = {
      ...settings,
      targets: { ...settings.targets, more: { address: '127.0.0.1:9' } },
      rules: [{ groups: ['ops'], targets: ['more'] }, ...(settings.rules as object[])],
    };
    writeFileSync(gateway.configFile, JSON.stringify(next));
    const { rules, targets } = await reload(gateway);
    assert.deepEqual(rules, { added: 1, removed: 0, changed: 0 });
    assert.deepEqual(targets, { added: 1, removed: 0, changed: 0 });
    writeFileSync(
      gateway.configFile,
      JSON.stringify({ ...next, targets: { ...next.targets, more: { address: '127.0.0.1:8' } } }),
    );
    assert.deepEqual((await reload(gateway))['targets'], { added: 0, removed: 0, changed: 1 });
    writeFileSync(gateway.configFile, good);
    assert.deepEqual((await reload(gateway))['rules'], { added: 0, removed: 1, changed: 0 });
  });

  it('ends the tunnels that it no longer allows, in this process and in the one before it, and no others', async () => {
    const two = { echo: { address: `127.0.0.1:${echo.port}` }, other: { address: `127.0.0.1:${echo.port}` } };
    const rules = [{ groups: ['dev'], targets: ['echo', 'other'] }];
    writeFileSync(gateway.configFile, JSON.stringify({ ...settingsOf(gateway), targets: two, rules }));
    await reload(gateway);
    const old = await Promise.all([open(gateway), open(gateway, 'other:22')]);
    const next = await startNext(scratch, gateway);
    const here = await Promise.all([open(gateway), open(gateway, 'other:22')]);
    const client = await relay.open(
      {
        gateway: new URL(`http://127.0.0.1:${gateway.port}/ssh/`),
        target: { host: 'echo', port: 22 },
        token: new Secret(readFileSync(gateway.tokenFile, 'utf8').trim()),
      },
      direct,
      AbortSignal.timeout(60_000),
    );
    const failed = once(client, 'error');
    client.resume();
    const closed = [old[0], here[0]].map((tunnel) => closeOf(tunnel));
    writeFileSync(
      gateway.configFile,
      JSON.stringify({ ...settingsOf(gateway), rules: [{ groups: ['dev'], targets: ['other'] }] }),
    );
    assert.equal((await reload({ running: next }))['msg'], 'configuration reloaded');
    await Promise.all(closed);
    const [error] = (await failed) as [Error & { code?: string }];
    assert.equal(error.code, 'TARGET_DENIED');
    assert.match(error.message, /no longer allows/);
    const ends = await audited(gateway, 3, ({ event, cause }) => event === 'end' && cause === 'POLICY');
    assert.ok(
      ends.every(({ reason }) => reason === 'no rule allows it any more'),
      JSON.stringify(ends),
    );
    await logs(next, 'ended tunnels that the new configuration no longer allows');
    await assertEchoes(old[1]);
    await assertEchoes(here[1]);

    // The network policy, and an address.
    const denied = closeOf(here[1]);
    writeFileSync(
      gateway.configFile,
      JSON.stringify({ ...settingsOf(gateway), network: { allow: ['127.0.0.1/32'], deny: ['127.0.0.0/8'] } }),
    );
    await reload({ running: next });
    await denied;
    await audited(gateway, 5, ({ event, cause }) => event === 'end' && cause === 'POLICY');
    assert.match(String(auditOf(gateway).at(-1)!['reason']), /network\.deny lists 127\.0\.0\.0\/8/);
    for (const tunnel of [...old, ...here]) tunnel.destroy();
    await next.stop();
  });

  it('without its key file changes nothing, and a start without it makes no other key', async () => {
    writeFileSync(gateway.configFile, good);
    const first = await startNext(scratch, gateway);
    const { keyFile } = settingsOf(gateway) as unknown as { keyFile: string };
    const away = `${keyFile}.away`;
    renameSync(keyFile, away);
    await assertRefused({ ...gateway, running: first }, /key.*is missing/);
    assert.throws(() => readFileSync(keyFile), { code: 'ENOENT' });
    // A pipe that is never written to: this reload and the next ones end all the same.
    assert.equal((await run(['mkfifo', keyFile])).code, 0);
    await assertRefused({ ...gateway, running: first }, /key.* is not a regular file/);
    rmSync(keyFile);
    await assertRefused({ ...gateway, running: first }, /key.*is missing/);
    (await open(gateway)).destroy();
    await first.stop();
    const config = ['--config', gateway.configFile];
    for (const command of [['serve'], ['token', '--subject', 'x']]) {
      const { code, stderr } = await run([...gatewayCommand, ...command, ...config]);
      assert.equal(code, 2);
      assert.match(String(stderr), /is missing, and the store .* remembers a key.*--new-key/s);
      assert.throws(() => readFileSync(keyFile), { code: 'ENOENT' });
    }
    renameSync(away, keyFile);
    const again = await startNext(scratch, gateway);
    (await open(gateway)).destroy();
    await again.stop();
    // On purpose.
    rmSync(keyFile);
    const made = await run([
      ...gatewayCommand,
      'token',
      '--new-key',
      '--subject',
      'tester',
      '--group',
      'dev',
      ...config,
    ]);
    assert.equal(made.code, 0, String(made.stderr));
    writeFileSync(gateway.tokenFile, made.stdout);
    const anew = await startNext(scratch, gateway);
    (await open(gateway)).destroy();
    await anew.stop();
  });
});
