import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { makeCertificates } from '../support/certificates.ts';
import { startGateway } from '../support/gateway.ts';
import type { Gateway } from '../support/gateway.ts';
import { clientBundle } from '../support/needs.ts';
import { needsNetwork, openNetwork } from '../support/network.ts';
import type { Network } from '../support/network.ts';
import { eventually, freePort, output, own, start, within } from '../support/process.ts';
import type { Environment } from '../support/process.ts';
import { isLong } from '../support/resume.ts';
import type { AuditRecord } from '../support/resume.ts';
import { openScratch } from '../support/scratch.ts';
import { clientCommand } from '../support/ssh.ts';

const silentServer = (port: number): readonly string[] => [
  process.execPath,
  '-e',
  `require('node:net').createServer({ allowHalfOpen: true }, (s) => s.on('error', () => {}).resume()).listen(${port}, '127.0.0.1')`,
];

describe('clients that are gone after their end of input', needsNetwork(clientBundle, 'openssl'), () => {
  const scratch = openScratch();
  let network: Network;
  let gateway: Gateway;
  let env: Environment;

  before(async () => {
    network = await openNetwork(scratch);
    // How long the client's kernel answers for a process that is gone; a minute by default.
    await output(within(network.client, ['sysctl', '-qw', 'net.ipv4.tcp_fin_timeout=2']));
    const [certificates, silent] = [await makeCertificates(scratch), await freePort()];
    await start(scratch, silentServer(silent), { port: silent });
    gateway = await startGateway(scratch, {
      targets: { silent: `127.0.0.1:${silent}` },
      tls: certificates,
      publicHost: 'gw.example',
      address: network.address,
      settings: { entries: ['connect'], limits: { graceSeconds: 0 } },
    });
    env = {
      POSTERN_GATEWAY: `https://gw.example:${gateway.port}/ssh/`,
      POSTERN_TOKEN_FILE: gateway.tokenFile,
      POSTERN_CA_FILE: certificates.authorityFile,
    };
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
