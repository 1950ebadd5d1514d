import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { chooseEgress } from '../../../../client/egress/choose.ts';
import { planRoute } from '../../../../client/egress/route/environment.ts';
import { hopEgress } from '../../../../client/egress/route/hop-egress.ts';
import { trustOf } from '../../../../client/egress/tls/trust.ts';
import { routeCache } from '../../../../client/egress/route/route-cache.ts';
import type { RouteRequest } from '../../../../client/egress/route/route.ts';
import { authority, certificate, key, otherCertificate } from '../../certificates.ts';
import { listen, temporaryDirectory } from '../../support.ts';

const never = new AbortController().signal;

interface Inspected {
  readonly way: RouteRequest;
  /** How many connections there were. */
  readonly count: () => number;
}

/** A gateway with a certificate of an authority that, if it says so, only the system knows. */
async function inspected(t: TestContext, cert: string, isInSystem: boolean): Promise<Inspected> {
  const directory = temporaryDirectory(t);
  const systemCaFile = join(directory, 'system.pem');
  writeFileSync(systemCaFile, isInSystem ? `# The company\n${authority}` : otherCertificate);
  let connections = 0;
  const server = createTlsServer({ key, cert }, (socket) => socket.end('hello'));
  server.on('connection', () => connections++);
  const gateway = { host: 'localhost', port: await listen(t, server) };
  return { way: { gateway, tls: true, proxy: {}, state: directory, systemCaFile }, count: () => connections };
}

async function read(way: RouteRequest): Promise<string> {
  const socket = await chooseEgress(planRoute(way)).connect(way.gateway, never);
  return Buffer.concat((await socket.toArray()) as Buffer[]).toString();
}

// What was read of a system is kept by the process; these go in one order.
describe('the authorities of the system', { concurrency: 1 }, () => {
  it('are not trusted when they do not vouch either, and the failure names who does', async (t) => {
    const { way } = await inspected(t, certificate, false);
    await assert.rejects(read(way), { code: 'TLS_FAILED', message: /"Example Inspection CA"/ });
    assert.ok(!routeCache(way.state).needsSystemTrust);
  });

  const module = new URL('../../../../client/egress/choose.ts', import.meta.url).href;
  const planning = new URL('../../../../client/egress/route/environment.ts', import.meta.url).href;
  it('are asked when those of Node do not vouch, which is remembered for this network', async (t) => {
    const { way, count } = await inspected(t, certificate, true);
    // In a process of its own: this one has read another system.
    const script = `const { chooseEgress } = await import(${JSON.stringify(module)});
      const { planRoute } = await import(${JSON.stringify(planning)});
      const way = ${JSON.stringify(way)};
      for (const turn of [1, 2]) {
        const socket = await chooseEgress(planRoute(way)).connect(way.gateway, new AbortController().signal);
        process.stdout.write(Buffer.concat(await socket.toArray()) + ' ');
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
    const said = Buffer.concat((await child.stdout.toArray()) as Buffer[]).toString();
    assert.equal(said, 'hello hello ');
    assert.equal(count(), 3, 'one that was not trusted, and two that were');
    assert.ok(routeCache(way.state).needsSystemTrust);
  });

  it('do not make a certificate for another name good', async (t) => {
    const { way, count } = await inspected(t, otherCertificate, true);
    await assert.rejects(read({ ...way, caFile: way.systemCaFile! }), { code: 'TLS_FAILED' });
    assert.equal(count(), 1);
  });

  it('are not asked when that is switched off', async (t) => {
    const { way, count } = await inspected(t, certificate, true);
    await assert.rejects(read({ ...way, trustsSystem: false }), { code: 'TLS_FAILED' });
    assert.equal(count(), 1);
  });

  it('are asked for an https:// proxy as well', async (t) => {
    const { way, count } = await inspected(t, certificate, false);
    const { host, port } = way.gateway;
    const step = { scheme: 'https', address: { host, port } } as const;
    const connecting = hopEgress(step, trustOf(way)).connect({ host: 'gw.example', port: 443 }, never);
    await assert.rejects(connecting, { code: 'TLS_FAILED' });
    assert.equal(count(), 2);
  });
});

describe('systemAuthorities()', () => {
  const module = new URL('../../../../client/egress/tls/system-ca.ts', import.meta.url).href;
  it('finds those of this machine, and leaves out what is no certificate', () => {
    const script = `const { systemAuthorities, certificatesIn } = await import(${JSON.stringify(module)});
      console.log((await systemAuthorities(undefined, new AbortController().signal)).length);
      console.log(certificatesIn(process.argv[1]).length);`;
    const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';
    const argv = ['--input-type=module', '-e', script, '--', `${authority}${broken}${authority}`];
    const { stdout } = spawnSync(process.execPath, argv, { encoding: 'utf8' });
    const [found, read_] = stdout.trim().split('\n').map(Number);
    assert.ok(found! > 0, 'ca-certificates is installed');
    assert.equal(read_, 1);
  });
});
