import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import websocket from '@fastify/websocket';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { WebSocket } from 'ws';
import { issueToken, loadKeyFile } from '../../server/auth/gateway-key.ts';
import { postern } from '../../server/plugin.ts';
import { gatewayCommand } from '../e2e/support/gateway.ts';
import { run } from '../e2e/support/process.ts';
import { codeOf, exchange, startEcho, statusOf } from './support/gateway-parts.ts';
import { collect, rawUpgrade, upgradeHead, webSocketFields } from './support/peers.ts';

const publicUrl = 'http://127.0.0.1/ssh/';

for (const order of ['after', 'before'] as const) {
  describe(`the gateway as a plugin, registered ${order} somebody else's WebSocket plugin`, () => {
    let app: FastifyInstance;
    let folder: string;
    let port: number;
    let token: string;
    let echo: Awaited<ReturnType<typeof startEcho>>;

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), 'postern-plugin-'));
      echo = await startEcho();
      const keyFile = join(folder, 'key.json');
      const config = {
        publicUrl,
        keyFile,
        store: { file: join(folder, 'postern.db') },
        targets: { echo: { address: `127.0.0.1:${echo.port}` } },
        rules: [{ groups: ['dev'], targets: ['echo'] }],
        network: { allow: ['127.0.0.1/32'] },
        audit: { file: join(folder, 'audit.jsonl') },
        limits: { graceSeconds: 1 },
      };
      app = fastify({ logger: false, forceCloseConnections: true });
      if (order === 'before') app.register(postern, { prefix: '/deep/ssh', config });
      app.register(websocket);
      app.register(async (own) => {
        own.get('/hello', () => 'hello');
        own.get('/shout', { websocket: true }, (socket) => {
          socket.on('message', (data: Buffer) => socket.send(data.toString().toUpperCase()));
        });
      });
      if (order === 'after') app.register(postern, { prefix: '/deep/ssh', config });
      await app.listen({ host: '127.0.0.1', port: 0 });
      ({ port } = app.server.address() as AddressInfo);
      const key = (await loadKeyFile(keyFile))!;
      const claims = {
        audience: 'postern',
        subject: 'alice',
        groups: ['dev'],
        ttlMs: 60_000,
        now: Date.now(),
      };
      token = await issueToken(key, { ...claims, issuer: 'http://127.0.0.1/deep/ssh/' });
    });
    after(async () => {
      await app.close();
      echo.close();
      rmSync(folder, { recursive: true });
    });

    it('opens tunnels below its prefix, by every entry', async () => {
      const authorization = `Authorization: Bearer ${token}\r\n`;
      const heads = [
        upgradeHead('/deep/ssh/tcp/echo/22/', 'websocket', webSocketFields + authorization),
        upgradeHead('/deep/ssh/tcp/echo/22/', 'connect-tcp', authorization),
        `CONNECT echo:22 HTTP/1.1\r\nHost: echo:22\r\n${authorization}\r\n`,
      ];
      for (const head of heads) (await rawUpgrade(port, head)).destroy();
      const tunnel = await rawUpgrade(port, heads[2]!);
      tunnel.end('through');
      assert.equal((await collect(tunnel)).toString(), 'through');
    });

    it('refuses without a token', async () => {
      const answer = await exchange(
        port,
        upgradeHead('/deep/ssh/tcp/echo/22/', 'websocket', webSocketFields),
      );
      assert.equal(codeOf(answer), 'TOKEN_INVALID');
    });

    it('leaves the other routes alone', async () => {
      assert.equal(await (await fetch(`http://127.0.0.1:${port}/hello`)).text(), 'hello');
      assert.equal((await fetch(`http://127.0.0.1:${port}/nothing`)).status, 404);
    });

    it('leaves the other WebSocket route alone', async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/shout`);
      await once(socket, 'open');
      socket.send('hey');
      assert.equal(String((await once(socket, 'message'))[0]), 'HEY');
      socket.close();
    });

    it('answers upgrades below its prefix that it does not know itself', async () => {
      assert.equal(statusOf(await exchange(port, upgradeHead('/deep/ssh/nowhere', 'connect-tcp'))), 404);
    });

    for (const path of ['tcp/box/22/', 'proxy/box/22', 'v4/connect?host=box', 'v4/reconnect?sid=a&ack=0']) {
      it(`tells an ordinary request for ${path} to ask for an upgrade`, async () => {
        const answer = await fetch(`http://127.0.0.1:${port}/deep/ssh/${path}`);
        assert.deepEqual([answer.status, answer.headers.get('upgrade')], [426, 'websocket, connect-tcp']);
      });
    }

    it('has its page and its discovery document below the prefix', async () => {
      const page = await fetch(`http://127.0.0.1:${port}/deep/ssh/`);
      assert.match(page.headers.get('content-security-policy')!, /default-src 'none'/);
      assert.match(await page.text(), /ssh box/);
      const discovery = (await (
        await fetch(`http://127.0.0.1:${port}/deep/ssh/.well-known/postern`)
      ).json()) as object;
      const { entries } = discovery as { entries: string[] };
      assert.deepEqual(entries, ['relay', 'websocket', 'connect-tcp', 'connect', 'http']);
    });
  });
}

describe('the control socket of a plugin', () => {
  for (const kind of ['a file', 'an object'] as const) {
    it(`with ${kind} as its configuration answers sessions and kill, and goes with the app`, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'postern-plugin-'));
      const echo = await startEcho();
      t.after(() => {
        echo.close();
        rmSync(folder, { recursive: true });
      });
      const file = join(folder, 'postern.yaml');
      const config = {
        publicUrl,
        keyFile: join(folder, 'key.json'),
        store: { file: join(folder, 'postern.db') },
        audit: { file: join(folder, 'audit.jsonl') },
        targets: { echo: { address: `127.0.0.1:${echo.port}` } },
        rules: [{ groups: ['dev'], targets: ['echo'] }],
        network: { allow: ['127.0.0.1/32'] },
        ...(kind === 'an object' && { control: `unix:${join(folder, 'own.sock')}` }),
      };
      writeFileSync(file, JSON.stringify(config));
      const app = fastify({ logger: false, forceCloseConnections: true });
      app.register(postern, { prefix: '/ssh', config: kind === 'a file' ? file : config });
      await app.listen({ host: '127.0.0.1', port: 0 });
      const claims = { subject: 'alice', groups: ['dev'], ttlMs: 60_000, now: Date.now() };
      const about = { ...claims, issuer: publicUrl, audience: 'postern' };
      const token = await issueToken((await loadKeyFile(config.keyFile))!, about);
      const head = upgradeHead('/ssh/tcp/echo/22/', 'connect-tcp', `Authorization: Bearer ${token}\r\n`);
      const tunnel = await rawUpgrade((app.server.address() as AddressInfo).port, head);
      tunnel.on('error', () => {}).resume();
      const closed = once(tunnel, 'end');
      assert.match(
        (await run([...gatewayCommand, 'sessions', '--config', file])).stdout.toString(),
        /alice +echo:22 /,
      );
      assert.equal((await run([...gatewayCommand, 'kill', '--subject', 'alice', '--config', file])).code, 0);
      await closed;
      await app.close();
      const { code, stderr } = await run([...gatewayCommand, 'sessions', '--config', file]);
      assert.equal(code, 1);
      assert.match(stderr.toString(), /no gateway is running/);
    });
  }
});

describe('a plugin with a configuration that cannot be used', () => {
  it('keeps the app from starting, and says every problem', async () => {
    const app = fastify();
    app.register(postern, { prefix: '/ssh', config: { rulez: [], listen: 7 } });
    await assert.rejects(async () => app.ready(), { name: 'ConfigError' });
    await app.close();
  });
});
