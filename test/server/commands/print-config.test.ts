import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, describe, it } from 'node:test';
import { exampleValues, fillIn } from '../../../server/commands/fill-in.ts';
import { printConfigCommand } from '../../../server/commands/print-config.ts';

const top = new URL('../../../', import.meta.url);
const directory = mkdtempSync(join(tmpdir(), 'postern-print-config-'));
after(() => rmSync(directory, { recursive: true }));

const shipped = {
  nginx: ['nginx.conf.example'],
  haproxy: ['deploy/haproxy.cfg'],
  caddy: ['deploy/Caddyfile'],
  apache: ['deploy/apache.conf'],
  systemd: ['deploy/postern-gateway.service', 'deploy/postern-gateway.socket'],
} as const;

const names = Object.keys(shipped) as (keyof typeof shipped)[];

class Collector extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.text += chunk.toString();
    callback();
  }
}

function configFile(settings: object): string {
  const file = join(directory, 'postern.yaml');
  writeFileSync(file, JSON.stringify({ audit: { file: join(directory, 'audit.jsonl') }, ...settings }));
  return file;
}

async function print(
  name: string,
  settings: object,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new Collector(), new Collector()];
  const code = await printConfigCommand([name, '--config', configFile(settings)], {
    stdout,
    stderr,
    env: {},
    stdin: process.stdin,
  });
  return { code, stdout: stdout.text, stderr: stderr.text };
}

describe('fillIn()', () => {
  for (const file of Object.values(shipped).flat()) {
    it(`changes nothing in ${file} when it is given the example values`, () => {
      const text = readFileSync(new URL(file, top), 'utf8');
      assert.equal(fillIn(text, exampleValues), text);
    });
  }

  it('replaces whole words only, and never what it has put in itself', () => {
    const values = { ...exampleValues, port: '8022', host: 'gw.example.corp', prefix: '/443/' };
    assert.equal(
      fillIn('443 4430 x443 gw.example /ssh/ myssh/', values),
      '8022 4430 x443 gw.example.corp /443/ myssh/',
    );
  });
});

describe('print-config', () => {
  const settings = { publicUrl: 'https://door.corp:8443/p/', listen: '127.0.0.1:9022' };

  for (const name of names) {
    it(`prints the shipped file of ${name} with the values of the configuration`, async () => {
      const { code, stdout, stderr } = await print(name, settings);
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, /127\.0\.0\.1:9022/);
      assert.match(stdout, /door\.corp/);
      assert.match(stdout, /\/p\//);
      assert.match(stdout, /8443/);
      assert.doesNotMatch(stdout, /gw\.example|127\.0\.0\.1:8022|\/ssh\/|\b443\b/);
    });
  }

  it('keeps the example name where the public URL names no TLS door', async () => {
    const { stdout } = await print('nginx', { publicUrl: 'http://127.0.0.1:8022/ssh/' });
    assert.equal(stdout, readFileSync(new URL('nginx.conf.example', top), 'utf8'));
  });

  it('forwards to the loopback address of a gateway that listens everywhere', async () => {
    const { stdout } = await print('nginx', { ...settings, listen: '0.0.0.0:9022' });
    assert.match(stdout, /proxy_pass http:\/\/127\.0\.0\.1:9022;/);
  });

  for (const [name, line] of [
    ['nginx', 'proxy_pass http://unix:/run/postern.sock;'],
    ['haproxy', 'server gateway unix@/run/postern.sock'],
    ['caddy', 'reverse_proxy unix//run/postern.sock {'],
    ['apache', 'ProxyPass "/p/" "unix:/run/postern.sock|http://localhost/p/"'],
    ['systemd', 'ListenStream=/run/postern.sock'],
  ] as const) {
    it(`spells a unix socket as ${name} does`, async () => {
      const { stdout } = await print(name, { ...settings, listen: 'unix:/run/postern.sock' });
      assert.ok(stdout.includes(line), stdout);
    });
  }

  it('refuses to put a web proxy before a gateway that is the edge itself', async () => {
    const tls = { certFile: join(directory, 'c'), keyFile: join(directory, 'k') };
    writeFileSync(tls.certFile, '');
    writeFileSync(tls.keyFile, '');
    assert.equal((await print('nginx', { ...settings, tls })).code, 2);
    assert.equal((await print('systemd', { ...settings, tls })).code, 0);
  });

  for (const name of ['', 'squid', '__proto__', 'nginx extra']) {
    it(`knows no ${JSON.stringify(name)}`, async () => {
      const [stdout, stderr] = [new Collector(), new Collector()];
      const code = await printConfigCommand(name.split(' '), {
        stdout,
        stderr,
        env: {},
        stdin: process.stdin,
      });
      assert.deepEqual([code, stdout.text], [2, '']);
    });
  }
});
