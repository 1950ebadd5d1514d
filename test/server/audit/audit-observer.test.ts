import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import { AuditFile } from '../../../server/audit/audit-file.ts';
import { AuditLog } from '../../../server/audit/audit-log.ts';
import { auditObserver } from '../../../server/audit/audit-observer.ts';
import { codeOf, exchange, startEcho, startParts } from '../support/gateway-parts.ts';
import type { Parts } from '../support/gateway-parts.ts';
import { collect, connectPeer, connectTcpPeer, upgradeHead } from '../support/peers.ts';

type AuditRecord = Record<string, unknown>;

/** Runs against a gateway with an audit file, and gives what the file then says. */
async function audited(
  run: (gateway: Parts) => Promise<void>,
  more: Parameters<typeof startParts>[0] = {},
): Promise<AuditRecord[]> {
  const folder = await mkdtemp(join(tmpdir(), 'postern-audit-'));
  const file = join(folder, 'audit.jsonl');
  const log = new AuditLog(new AuditFile(file));
  await log.start();
  const gateway = await startParts({ ...more, observers: [auditObserver(log, () => true)] });
  await run(gateway);
  await gateway.close();
  await log.close();
  const text = await readFile(file, 'utf8');
  await rm(folder, { recursive: true });
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditRecord);
}

describe('the audit', () => {
  it('has an open and an end record of a tunnel, with who, what, how much and why', async () => {
    const echo = await startEcho();
    const records = await audited(async (gateway) => {
      const tunnel = await connectTcpPeer.open(gateway.port, `localhost:${echo.port}`);
      tunnel.end('12345');
      await collect(tunnel);
      await gateway.endedCount(1);
    });
    assert.deepEqual(
      records.map(({ event }) => event),
      ['open', 'end'],
    );
    const [open, end] = records as [AuditRecord, AuditRecord];
    assert.equal(open.session, end.session);
    for (const record of records) {
      assert.equal(record.subject, 'alice');
      assert.equal(record.entry, 'connect-tcp');
      assert.equal(record.client, '127.0.0.1');
      assert.equal(record.target, `localhost:${echo.port}`);
      assert.equal(record.address, `127.0.0.1:${echo.port}`);
      assert.equal(record.rule, 'rule 1');
    }
    assert.equal(end.bytesFromClient, 5);
    assert.equal(end.bytesFromTarget, 5);
    assert.equal(end.cause, 'CLOSED');
    assert.equal(typeof end.durationMs, 'number');
    echo.close();
  });

  it('has the opening record before the first byte can pass', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'postern-audit-'));
    const file = join(folder, 'audit.jsonl');
    const log = new AuditLog(new AuditFile(file));
    await log.start();
    const gateway = await startParts({ observers: [auditObserver(log, () => true)] });
    const echo = await startEcho();
    const tunnel = await connectPeer.open(gateway.port, `localhost:${echo.port}`);
    // The 200 has just arrived.
    assert.match(await readFile(file, 'utf8'), /"event":"open"/);
    tunnel.destroy();
    await gateway.close();
    await log.close();
    echo.close();
    await rm(folder, { recursive: true });
  });

  it('has a record of every refusal, with the true reason', async () => {
    const asks = ['', 'Authorization: Bearer bad\r\n', 'Authorization: Bearer good\r\n'];
    const records = await audited(
      async (gateway) => {
        for (const field of asks)
          await exchange(gateway.port, upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', field));
        await exchange(gateway.port, upgradeHead('/ssh/tcp/b%00x/22/', 'connect-tcp', asks[2]));
        await exchange(gateway.port, upgradeHead('/ssh/nowhere', 'connect-tcp', asks[2]));
      },
      {
        policy: {
          decide() {
            throw new TunnelError('TARGET_DENIED', 'no rule');
          },
        },
      },
    );
    assert.deepEqual(
      records.map(({ event, cause }) => `${String(event)} ${String(cause)}`),
      ['TOKEN_MISSING', 'TOKEN_INVALID', 'TARGET_DENIED', 'TARGET_INVALID', 'ENTRY_UNKNOWN'].map(
        (code) => `refuse ${code}`,
      ),
    );
    assert.equal(records[2]!.subject, 'alice');
    assert.equal(records[1]!.subject, undefined);
  });

  it('does not hold tokens', async () => {
    const canary = 'canary-5f1d';
    const records = await audited(async (gateway) => {
      await exchange(
        gateway.port,
        upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', `Authorization: Bearer ${canary}\r\n`),
      );
      await exchange(
        gateway.port,
        `CONNECT box:22 HTTP/1.0\r\nProxy-Authorization: Basic ${btoa(`u:${canary}`)}\r\n\r\n`,
      );
    });
    assert.equal(records.length, 2);
    assert.doesNotMatch(JSON.stringify(records), new RegExp(`${canary}|${btoa(canary).slice(0, 10)}`));
  });

  it('refuses tunnels while it cannot be written, if it is required', async () => {
    const echo = await startEcho();
    for (const [required, wanted] of [
      [true, 'AUDIT_UNAVAILABLE'],
      [false, undefined],
    ] as const) {
      const log = new AuditLog(new AuditFile('/dev/full'));
      await log.start();
      const gateway = await startParts({ observers: [auditObserver(log, () => required)] });
      const head = `CONNECT localhost:${echo.port} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n`;
      if (wanted) assert.equal(codeOf(await exchange(gateway.port, head)), wanted);
      else (await connectPeer.open(gateway.port, `localhost:${echo.port}`)).destroy();
      await gateway.close();
      await log.close();
    }
    echo.close();
  });
});
