import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import type { Gateway } from '../support/gateway.ts';
import { clientBundle } from '../support/needs.ts';
import { needsNetwork } from '../support/network.ts';
import type { Network } from '../support/network.ts';
import { eventually, own, within } from '../support/process.ts';
import type { Environment } from '../support/process.ts';
import { isLong } from '../support/resume.ts';
import type { AuditRecord } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { startSilentTarget } from '../support/silent-target.ts';
import { clientCommand } from '../support/ssh.ts';

describe('clients that are gone after their end of input', needsNetwork(clientBundle, 'openssl'), () => {
  const scratch = openScratch();
  let network: Network;
  let gateway: Gateway;
  let env: Environment;

  before(async () => {
    const settings = { entries: ['connect'], limits: { graceSeconds: 0 } };
    ({ network, gateway, env } = await startSilentTarget(scratch, settings));
  });

  /** What the audit says, in order. */
  function audited(event: string): AuditRecord[] {
    const lines = readFileSync(gateway.auditFile, 'utf8').split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line) as AuditRecord).filter((record) => record['event'] === event);
  }

  /** A client whose input has ended, if `isHalfClosed`, with its tunnel open. */
  async function openTunnel(isHalfClosed: boolean): Promise<ChildProcess> {
    const before = audited('open').length;
    const [command, ...args] = within(network.client, clientCommand('connect', '--via', 'connect', 'silent'));
    const child = own(
      spawn(command!, args, { stdio: ['pipe', 'ignore', 'ignore'], env: { ...process.env, ...env } }),
    );
    await eventually(() => audited('open').length > before, 'the tunnel');
    scratch.onEnd(() => void child.kill('SIGKILL'));
    if (isHalfClosed) child.stdin.end();
    return child;
  }

  it('are noticed when they are killed, and those that are alive stay', async () => {
    const [killed, alive] = [await openTunnel(false), await openTunnel(true)];
    killed.kill('SIGKILL');
    await eventually(() => audited('end').length === 1, 'the end', 60_000);
    assert.equal(audited('end')[0]!['cause'], 'CLIENT_LOST');
    assert.equal(alive.exitCode ?? alive.signalCode, null);
  });

  it('are noticed when their network is gone', { skip: !isLong }, async () => {
    await network.cut('blackhole');
    await eventually(() => audited('end').length === 2, 'the end', 60_000);
    assert.equal(audited('end')[1]!['cause'], 'CLIENT_LOST');
  });
});
