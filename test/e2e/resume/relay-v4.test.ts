// Clients of relay v4 that are not ours: real ssh, scp and sftp through them, the gateway and a line that is cut again and
// again.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { startFaultProxy } from '../../support/fault-proxy.ts';
import type { FaultProxy } from '../../support/fault-proxy.ts';
import { makeCertificates } from '../support/certificates.ts';
import { startGateway } from '../support/gateway.ts';
import type { Gateway } from '../support/gateway.ts';
import { needs, packageDirectory } from '../support/needs.ts';
import { eventually, own } from '../support/process.ts';
import type { Outcome } from '../support/process.ts';
import { openScratch } from '../support/scratch.ts';
import { box, prepareSsh } from '../support/ssh.ts';
import type { Ssh } from '../support/ssh.ts';
import { startSshd } from '../support/sshd.ts';

const scratch = openScratch();
const mebibyte = 1024 * 1024;
const bigBytes = (process.env.POSTERN_LONG ? 100 : 8) * mebibyte;
/** Short enough for several cuts in each transfer. */
const cutBytes = 1_500_000;

describe('a client of relay v4', needs('ssh', 'sshd', 'ssh-keygen', 'scp', 'sftp', 'openssl'), () => {
  let proxy: FaultProxy;
  let gateway: Gateway;
  let gcloud: Ssh;
  let nassh: Ssh;
  const sent = scratch.path('sent');

  before(async () => {
    const [certificates, sshd] = await Promise.all([makeCertificates(scratch), startSshd(scratch)]);
    gateway = await startGateway(scratch, {
      targets: { [box]: `127.0.0.1:${sshd.port}` },
      tls: certificates,
    });
    proxy = await startFaultProxy(gateway.port);
    scratch.onEnd(() => proxy.close());
    writeFileSync(sent, randomBytes(bigBytes));
    const client = join(packageDirectory, 'test/e2e/support/relay-v4-client.ts');
    const root = `wss://localhost:${proxy.port}/ssh/v4`;
    const env = {
      RELAY_TOKEN_FILE: gateway.tokenFile,
      RELAY_PAUSE_MS: '50',
      NODE_EXTRA_CA_CERTS: certificates.authorityFile,
    };
    const prepare = (name: string, ...more: readonly string[]): Ssh =>
      prepareSsh(scratch, {
        sshd,
        env,
        name,
        proxyCommand: [process.execPath, client, ...more, root, '%h', '%p'].join(' '),
      });
    gcloud = prepare('gcloud');
    nassh = prepare('nassh', '--nassh');
  });

  /** Runs something while each connection is cut after some bytes; gives the outcome and how many there were. */
  async function throughCuts(fault: 'reset' | 'end', what: () => Promise<Outcome>): Promise<number> {
    const from = proxy.count;
    proxy.cutAfter(cutBytes, fault);
    const { code, stderr } = await what();
    proxy.cutAfter(Infinity, fault);
    assert.equal(code, 0, stderr.toString());
    return proxy.count - from;
  }

  it('runs a command like any ssh', async () => {
    const { code, stdout, stderr } = await gcloud.run([box, 'echo from here; exit 7']);
    assert.deepEqual([code, stdout.toString(), stderr.toString()], [7, 'from here\n', '']);
  });

  for (const fault of ['reset', 'end'] as const) {
    it(`copies a file there and back with scp while it is cut off again and again (${fault})`, async () => {
      const folder = scratch.path(`scp-${fault}`);
      mkdirSync(folder);
      const [there, back] = [join(folder, 'there'), join(folder, 'back')];
      const options = ['-q', '-F', gcloud.configFile];
      const timeoutMs = 300_000;
      const up = await throughCuts(fault, () =>
        gcloud.command(['scp', ...options, sent, `${box}:${there}`], { timeoutMs }),
      );
      const down = await throughCuts(fault, () =>
        gcloud.command(['scp', ...options, `${box}:${there}`, back], { timeoutMs }),
      );
      assert.equal(hashOf(there), hashOf(sent));
      assert.equal(hashOf(back), hashOf(sent));
      assert.ok(up >= 4 && down >= 4, `${up} and ${down} connections`);
    });
  }

  it('copies a file with sftp while it is cut off again and again', async () => {
    const [there, back, batch] = [
      scratch.path('sftp-there'),
      scratch.path('sftp-back'),
      scratch.path('batch'),
    ];
    writeFileSync(batch, `put ${sent} ${there}\nget ${there} ${back}\n`);
    const connections = await throughCuts('reset', () =>
      gcloud.command(['sftp', '-q', '-b', batch, '-F', gcloud.configFile, box], { timeoutMs: 300_000 }),
    );
    assert.equal(hashOf(back), hashOf(sent));
    assert.ok(connections >= 8, `${connections} connections`);
  });

  it('carries both ways at once while it is cut off again and again', async () => {
    let stdout: Buffer = Buffer.alloc(0);
    const connections = await throughCuts('reset', async () => {
      const outcome = await gcloud.run([box, 'cat'], { input: readFileSync(sent), timeoutMs: 300_000 });
      stdout = outcome.stdout;
      return outcome;
    });
    assert.equal(hash(stdout), hashOf(sent));
    assert.ok(connections >= 8, `${connections} connections`);
  });

  it('of nassh goes on after a cut in silence', async () => {
    const child = own(
      spawn('ssh', ['-F', nassh.configFile, box, 'cat'], {
        env: { ...process.env, ...nassh.env },
        stdio: ['pipe', 'pipe', 'pipe'],
      }),
    );
    let [heard, complaints] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => {
      heard += chunk.toString();
      child.emit('heard');
    });
    child.stderr.on('data', (chunk: Buffer) => (complaints += chunk.toString()));
    const from = proxy.count;
    for (const line of ['one\n', 'two\n', 'three\n']) {
      child.stdin.write(line);
      while (!heard.endsWith(line)) {
        if (child.exitCode !== null) assert.fail(complaints);
        await Promise.race([once(child, 'heard'), once(child, 'close')]);
      }
      const opened = proxy.count;
      proxy.cut('reset');
      // What is sent before it knows of the cut is lost for good.
      await eventually(() => proxy.count > opened, 'the next connection');
    }
    child.stdin.end();
    const [code] = (await once(child, 'close')) as [number];
    assert.deepEqual([code, heard, complaints], [0, 'one\ntwo\nthree\n', '']);
    assert.ok(proxy.count - from >= 3);
  });

  it('is refused what our own client is refused', async () => {
    const { code, stderr } = await gcloud.run(['-o', 'HostName=elsewhere', box, 'true']);
    assert.equal(code, 255);
    assert.match(stderr.toString(), /refused with 403/);
  });

  it('leaves an audit that tells of the connections', () => {
    const records = readFileSync(gateway.auditFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly event: string });
    const count = (event: string): number => records.filter((record) => record.event === event).length;
    assert.ok(count('resume') >= 20, `${count('resume')} resumes`);
    assert.ok(count('detach') >= 20, `${count('detach')} detaches`);
  });
});

function hashOf(file: string): string {
  return hash(readFileSync(file));
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
