import assert from 'node:assert/strict';
import { readFileSync, rmSync, renameSync, statSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { openScratch } from '../../e2e/support/scratch.ts';
import { auditOf, audited, logs, startNext } from '../../e2e/support/generations.ts';
import type { AuditRecord } from '../../e2e/support/generations.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { eventually, run } from '../../e2e/support/process.ts';
import { codeOf, exchange, startEcho } from '../support/gateway-parts.ts';

const scratch = openScratch();

function headFor({ tokenFile }: Gateway, target = 'echo:22'): string {
  return `CONNECT ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${readFileSync(tokenFile, 'utf8').trim()}\r\n\r\n`;
}

/** Opens a tunnel by CONNECT, which ends with its connection. */
async function open(gateway: Gateway): Promise<Socket> {
  const socket = connect(gateway.port, '127.0.0.1').on('error', () => {});
  socket.write(headFor(gateway));
  const head = await new Promise((resolve) => socket.once('data', resolve));
  assert.match(String(head), /^HTTP\/1.1 200/);
  return socket;
}

const openAll = (gateway: Gateway, count: number): Promise<Socket[]> =>
  Promise.all(Array.from({ length: count }, () => open(gateway)));

function everyRecordOf({ auditFile }: Pick<Gateway, 'auditFile'>): AuditRecord[] {
  const lines = readFileSync(auditFile, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as AuditRecord);
}

async function assertIntact(...files: string[]): Promise<void> {
  const { code, stdout } = await run([...gatewayCommand, 'verify-audit', ...files]);
  assert.equal(code, 0, stdout.toString());
}

/** Each tunnel that has opened has one end. */
function assertEndedOnce(gateway: Gateway): void {
  const sessionsOf = (...events: string[]): unknown[] =>
    auditOf(gateway)
      .filter(({ event }) => events.includes(String(event)))
      .map(({ session }) => String(session))
      .toSorted((a, b) => a.localeCompare(b));
  assert.deepEqual(sessionsOf('end'), sessionsOf('open'));
}

async function childrenOf(pid: number): Promise<number[]> {
  const { stdout } = await run(['pgrep', '-P', String(pid)]);
  return stdout.toString().trim().split('\n').filter(Boolean).map(Number);
}

async function statusOf({ adminPort }: Gateway): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${adminPort}/readyz`, { headers: { connection: 'close' } });
  return { status: answer.status, text: await answer.text() };
}

describe('the one writer of the audit', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => (echo = await startEcho()));
  after(() => echo.close());

  const start = async (settings: object = {}): Promise<Gateway> => {
    const limits = { perSubject: 1000, perAddress: 1000, graceSeconds: 5 };
    const targets = { echo: `127.0.0.1:${echo.port}` };
    const gateway = await startGateway(scratch, { targets, settings: { workers: 2, limits, ...settings } });
    await logs(gateway.running, 'listening');
    return gateway;
  };

  it('ends the tunnels of a worker that was killed', async () => {
    const gateway = await start();
    const sockets = await openAll(gateway, 12);
    const [victim] = await childrenOf(gateway.running.pid);
    process.kill(victim!, 'SIGKILL');
    const lost = await audited(gateway, 1, ({ cause }) => cause === 'GATEWAY_LOST');
    assert.deepEqual([lost[0]!['subject'], lost[0]!['target']], ['tester', 'echo:22']);
    for (const each of sockets) each.destroy();
    await audited(gateway, 12, ({ event }) => event === 'end');
    await gateway.running.stop();
    assertEndedOnce(gateway);
    await assertIntact(gateway.auditFile);
  });

  for (const workers of [1, 2]) {
    it(`ends the tunnels of a gateway with ${workers} that was killed, when the next one starts`, async () => {
      const gateway = await start({ workers });
      const all = [gateway.running.pid, ...(await childrenOf(gateway.running.pid))];
      const sockets = await openAll(gateway, 8);
      for (const pid of all) process.kill(pid, 'SIGKILL');
      await gateway.running.ended;
      for (const each of sockets) each.destroy();
      const next = await startNext(scratch, gateway);
      assert.equal(auditOf(gateway).filter(({ cause }) => cause === 'GATEWAY_LOST').length, 8);
      assertEndedOnce(gateway);
      await next.stop();
      // The next start finds nothing left to end.
      if (workers === 1) await (await startNext(scratch, gateway)).stop();
      assertEndedOnce(gateway);
      await assertIntact(gateway.auditFile);
    });
  }

  it('is replaced by the workers themselves when it was killed, without a record twice', async () => {
    const gateway = await start();
    const sockets = await openAll(gateway, 10);
    const workers = await childrenOf(gateway.running.pid);
    for (const each of sockets.slice(0, 5)) each.destroy();
    process.kill(gateway.running.pid, 'SIGKILL');
    for (const each of sockets.slice(5)) each.destroy();
    await eventually(() => workers.every((pid) => !isThere(pid)), 'the end of the workers', 60_000);
    assertEndedOnce(gateway);
    await assertIntact(gateway.auditFile);
  });

  describe('of one gateway', () => {
    let gateway: Gateway;
    before(async () => (gateway = await start()));

    it('opens nothing while it is stopped, and keeps what is open; what was refused is no gap', async () => {
      const socket = await open(gateway);
      process.kill(gateway.running.pid, 'SIGSTOP');
      try {
        assert.equal(codeOf(await exchange(gateway.port, headFor(gateway))), 'AUDIT_UNAVAILABLE');
        socket.write('still here');
        assert.equal(String(await new Promise((resolve) => socket.once('data', resolve))), 'still here');
      } finally {
        process.kill(gateway.running.pid, 'SIGCONT');
      }
      await eventually(async () => (await statusOf(gateway)).status === 200, 'ready again', 60_000);
      socket.destroy();
      (await open(gateway)).destroy();
      await audited(gateway, 2, ({ event }) => event === 'end');
      assert.equal(auditOf(gateway).filter(({ cause }) => cause === 'AUDIT_UNAVAILABLE').length, 1);
    });

    it('reopens the file on SIGUSR1, without a reload and without a debugger', async () => {
      const rotated = `${gateway.auditFile}.1`;
      renameSync(gateway.auditFile, rotated);
      for (const pid of [gateway.running.pid, ...(await childrenOf(gateway.running.pid))])
        process.kill(pid, 'SIGUSR1');
      await eventually(() => statSync(gateway.auditFile, { throwIfNoEntry: false }) !== undefined);
      assert.equal(statSync(gateway.auditFile).mode & 0o777, 0o600);
      (await open(gateway)).destroy();
      await audited(gateway, 1, ({ event }) => event === 'end');
      assert.doesNotMatch(gateway.running.log(), /configuration reloaded|Debugger listening/);
      await assertIntact(gateway.auditFile, rotated);
      const [first] = everyRecordOf({ auditFile: rotated });
      assert.deepEqual(
        [first!['event'], first!['pid'], first!['others']],
        ['start', gateway.running.pid, []],
      );
      assert.match(String(first!['config']), /^[\w-]{43}$/);
    });

    it('makes the file anew when it was removed: no tunnel opens without its record', async () => {
      rmSync(gateway.auditFile);
      (await open(gateway)).destroy();
      await audited(gateway, 1, ({ event }) => event === 'open');
      await logs(gateway.running, 'the audit file was removed; it continues in a new one');
      const metrics = await fetch(`http://127.0.0.1:${gateway.adminPort}/metrics`).then((each) =>
        each.text(),
      );
      assert.match(metrics, /postern_audit_file_changes_total\{how="removed"\} 1/);
    });

    it('records that the gateway starts and stops, once for all its processes', async () => {
      await gateway.running.stop();
      const records = everyRecordOf(gateway);
      const last = records.at(-1)!;
      assert.deepEqual([last['event'], last['pid'], last['cause']], ['stop', gateway.running.pid, 'SIGTERM']);
      const life = [...everyRecordOf({ auditFile: `${gateway.auditFile}.1` }), ...records];
      assert.equal(life.filter(({ event }) => event === 'start' || event === 'stop').length, 2);
    });
  });

  it('keeps one chain over a takeover in which both generations write', async () => {
    const gateway = await start();
    const first = await openAll(gateway, 8);
    const next = await startNext(scratch, gateway);
    const second = await openAll(gateway, 8);
    for (const each of [...first, ...second]) each.destroy();
    await audited(gateway, 16, ({ event }) => event === 'end');
    assert.equal(await gateway.running.ended, 0);
    await next.stop();
    assertEndedOnce(gateway);
    const life = everyRecordOf(gateway).filter(({ event }) => event === 'start' || event === 'stop');
    assert.deepEqual(
      life.map(({ event, cause, pid }) => [event, cause, pid]),
      [
        ['start', undefined, gateway.running.pid],
        ['start', undefined, next.pid],
        ['stop', 'takeover', gateway.running.pid],
        ['stop', 'SIGTERM', next.pid],
      ],
    );
    assert.notDeepEqual(life[1]!['others'], []);
    await assertIntact(gateway.auditFile);
  });
});

function isThere(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
