import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { direct } from '../../../client/egress/direct.ts';
import { relay } from '../../../client/entry/resumable.ts';
import { Secret } from '../../../protocol/secret.ts';
import { InstanceHistory } from '../../../server/resume/instance-history.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { audited } from '../../e2e/support/generations.ts';
import { eventually, start } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { startEcho } from '../support/gateway-parts.ts';

const scratch = openScratch();

async function codeFor(history: InstanceHistory, name: string): Promise<string> {
  return (await history.refusal(name)).code;
}

describe('InstanceHistory', () => {
  it('tells the processes of one gateway from those of others, and of no gateway', async () => {
    const store = await openSqliteStore(scratch.path('history.db'));
    const [one, other] = [new InstanceHistory(store, '/one.sock'), new InstanceHistory(store, '/other.sock')];
    await one.remember(['aaaaaaaa', 'bbbbbbbb']);
    await other.remember(['cccccccc']);
    assert.equal(await codeFor(one, 'aaaaaaaa'), 'TUNNEL_GONE');
    assert.equal(await codeFor(one, 'bbbbbbbb'), 'TUNNEL_GONE');
    assert.equal(await codeFor(one, 'cccccccc'), 'TUNNEL_UNREACHABLE');
    assert.equal(await codeFor(other, 'aaaaaaaa'), 'TUNNEL_UNREACHABLE');
    for (const name of ['', '..', 'short', '../../../etc/passwd', 'a'.repeat(300)])
      assert.equal(await codeFor(one, name), 'TUNNEL_GONE', name);
    // Bounded: the oldest are forgotten.
    await one.remember(Array.from({ length: 1000 }, () => randomBytes(6).toString('base64url')));
    assert.equal(await codeFor(one, 'aaaaaaaa'), 'TUNNEL_UNREACHABLE');
    await store.close();
    assert.equal(await codeFor(one, 'bbbbbbbb'), 'TUNNEL_UNREACHABLE');
  });
});

/** Passes connections to the one or the other gateway, as a balancer does; `cut` resets them. */
class Balancer {
  port = 0;
  to = 0;
  readonly #server: Server;
  readonly #open = new Set<{ resetAndDestroy(): void }>();

  constructor(ports: readonly number[]) {
    this.#server = createServer((from) => {
      const there = connect(ports[this.to]!, '127.0.0.1');
      for (const socket of [from, there]) {
        this.#open.add(socket);
        socket.on('error', () => {}).on('close', () => this.#open.delete(socket));
      }
      from.pipe(there).pipe(from);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as AddressInfo).port;
  }

  cut(): void {
    for (const socket of this.#open) socket.resetAndDestroy();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }
}

function open(port: number, tokenFile: string): Promise<Duplex> {
  return relay.open(
    {
      gateway: new URL(`http://127.0.0.1:${port}/ssh/`),
      target: { host: 'echo', port: 22 },
      token: new Secret(readFileSync(tokenFile, 'utf8').trim()),
    },
    direct,
    AbortSignal.timeout(60_000),
  );
}

describe('two gateways behind one balancer', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  before(async () => (echo = await startEcho()));
  after(() => echo.close());

  it('keep a session whose client comes back to the other one first', async () => {
    const targets = { echo: `127.0.0.1:${echo.port}` };
    const one = await startGateway(scratch, { targets });
    const { keyFile, publicUrl } = JSON.parse(readFileSync(one.configFile, 'utf8')) as Record<string, string>;
    // The same identity; a store and an audit of its own.
    const other: Gateway = await startGateway(scratch, { targets, settings: { keyFile, publicUrl } });
    const balancer = new Balancer([one.port, other.port]);
    await balancer.listen();
    const tunnel = await open(balancer.port, one.tokenFile);
    tunnel.on('error', () => {});
    let received = '';
    tunnel.on('data', (chunk: Buffer) => (received += chunk.toString()));
    tunnel.write('before');
    await eventually(() => received === 'before');
    balancer.to = 1;
    balancer.cut();
    tunnel.write(' after');
    await audited(other, 1, ({ event, cause }) => event === 'refuse' && cause === 'TUNNEL_UNREACHABLE');
    assert.equal(tunnel.destroyed, false);
    balancer.to = 0;
    await eventually(() => received === 'before after', 'the rest of it', 60_000);
    tunnel.destroy();
    balancer.close();
    await Promise.all([one.running.stop(), other.running.stop()]);
  });

  it('a gateway that begins anew says at once that a session of the process before is over', async () => {
    const gateway = await startGateway(scratch, { targets: { echo: `127.0.0.1:${echo.port}` } });
    const tunnel = await open(gateway.port, gateway.tokenFile);
    const failed = new Promise<Error & { code?: string }>((resolve) => tunnel.on('error', resolve));
    tunnel.resume();
    gateway.running.signal('SIGKILL');
    await gateway.running.ended;
    const again = await start(scratch, [...gatewayCommand, 'serve', '--config', gateway.configFile], {
      port: gateway.port,
    });
    assert.equal((await failed).code, 'TUNNEL_GONE');
    await again.stop();
  });
});
