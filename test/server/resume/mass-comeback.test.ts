import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { SignJWT } from 'jose';
import { authority, certificate, key } from '../../client/certificates.ts';
import { rejoinFields, v1 } from '../../hostile/support/relay-wire.ts';
import type { Known } from '../../hostile/support/relay-wire.ts';
import { startGatewayApp } from '../support/gateway-app.ts';
import type { RunningGateway } from '../support/gateway-app.ts';
import { startEcho } from '../support/gateway-parts.ts';

const issuer = 'https://id.example';

for (const [count, isTls] of [
  [300, false],
  [150, true],
] as const)
  describe(`${count} clients that come back in the same moment${isTls ? ', by TLS' : ''}`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-comeback-'));
    let gateway: RunningGateway | undefined;
    let echo: Awaited<ReturnType<typeof startEcho>> | undefined;
    let token: string;
    const sockets: Socket[] = [];

    before(async () => {
      echo = await startEcho();
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const [jwksFile, certFile, keyFile] = ['jwks.json', 'cert.pem', 'key.pem'].map((name) =>
        join(folder, name),
      ) as [string, string, string];
      const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'ES256' };
      writeFileSync(jwksFile, JSON.stringify({ keys: [jwk] }));
      writeFileSync(certFile, certificate);
      writeFileSync(keyFile, key, { mode: 0o600 });
      token = await new SignJWT({ groups: ['dev'] })
        .setProtectedHeader({ alg: 'ES256', kid: 'k', typ: 'at+jwt' })
        .setIssuer(issuer)
        .setAudience('postern')
        .setSubject('alice')
        .setJti('one')
        .setIssuedAt()
        .setExpirationTime('1h')
        .sign(privateKey);
      gateway = await startGatewayApp({
        issuers: [{ issuer, audience: 'postern', jwksFile, algorithms: ['ES256'] }],
        targets: { box: { address: `127.0.0.1:${echo.port}` } },
        rules: [{ groups: ['dev'], targets: ['box'] }],
        network: { allow: ['127.0.0.1/32'] },
        limits: { graceSeconds: 0, perSubject: 2 * count, perAddress: 2 * count },
        ...(isTls && { tls: { certFile, keyFile } }),
      });
    });
    after(async () => {
      for (const socket of sockets) socket.destroy();
      await gateway?.close();
      echo?.close();
      rmSync(folder, { recursive: true });
    });

    /** A connection that the gateway has accepted. */
    async function dial(): Promise<Socket> {
      const tcp = connect(gateway!.port, '127.0.0.1');
      const socket = isTls ? connectTls({ socket: tcp, ca: authority, servername: 'localhost' }) : tcp;
      socket.on('error', () => {});
      sockets.push(socket);
      await once(socket, isTls ? 'secureConnect' : 'connect');
      return socket;
    }

    /** Asks for a tunnel, and resolves to the first text of the relay. */
    async function ask(
      socket: Socket,
      path: string,
      fields: Readonly<Record<string, string>>,
    ): Promise<string> {
      const more = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
      socket.write(
        `GET /ssh/v4/${path} HTTP/1.1\r\nHost: gw.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
          `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n` +
          `Sec-WebSocket-Protocol: ${v1}\r\nAuthorization: Bearer ${token}\r\n${more.join('')}\r\n`,
      );
      let heard = '';
      for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
        heard += (chunk as Buffer).toString('latin1');
        const text = heard.split('\r\n\r\n')[1] ?? '';
        if (text.length > 20) return text;
        if (!heard.startsWith('HTTP/1.1 101 ')) throw new Error(heard);
      }
      throw new Error(`closed after ${heard}`);
    }

    async function open(): Promise<Known> {
      const socket = await dial();
      const [, sid, secret] = /opened sid=(\S+) secret=(\S+)/.exec(
        await ask(socket, 'connect?host=box&port=22', {}),
      ) as unknown as [string, string, string];
      socket.destroy();
      return { sid, secret };
    }

    it('are served in turns, between which a neighbour is', async () => {
      const neighbour = await dial();
      neighbour.write(
        `CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\nProxy-Authorization: Bearer ${token}\r\n\r\n`,
      );
      assert.match(String((await once(neighbour, 'data'))[0]), /^HTTP\/1\.1 200 /);
      const known: Known[] = [];
      while (known.length < count)
        known.push(...(await Promise.all(Array.from({ length: 50 }, () => open()))));
      const connections: Socket[] = [];
      while (connections.length < count)
        connections.push(...(await Promise.all(Array.from({ length: 50 }, () => dial()))));
      // All of them are accepted, and none is closed.
      const discovery = await dial();
      discovery.write('GET /ssh/.well-known/postern HTTP/1.1\r\nHost: gw.example\r\n\r\n');
      assert.match(String((await once(discovery, 'data'))[0]), /^HTTP\/1\.1 200 /);

      let answered = 0;
      let echoed = 0;
      const isOver = (): boolean => answered === count;
      const inTurn: number[] = [0];
      const countTurns = (): void => {
        inTurn.push(0);
        if (!isOver()) setImmediate(countTurns);
      };
      setImmediate(countTurns);
      const all = connections.map(async (socket, at) => {
        const fields = rejoinFields(known[at]!, { count: 1 });
        assert.match(await ask(socket, `reconnect?sid=${known[at]!.sid}&ack=0`, fields), /joined /);
        answered++;
        inTurn[inTurn.length - 1]!++;
      });
      const type = async (): Promise<void> => {
        while (!isOver()) {
          neighbour.write('x');
          await once(neighbour, 'data');
          if (answered > 0 && !isOver()) echoed++;
        }
      };
      await Promise.all([type(), ...all]);
      const most = Math.max(...inTurn);
      // Without turns all are answered in one. The time of one is for about twenty.
      assert.ok(most <= count / 3, `${most} in a turn`);
      assert.ok(echoed >= 2, `${echoed} keystrokes meanwhile`);
      // What was held back is read again.
      discovery.write('GET /ssh/.well-known/postern HTTP/1.1\r\nHost: gw.example\r\n\r\n');
      assert.match(String((await once(discovery, 'data'))[0]), /^HTTP\/1\.1 200 /);
    });
  });
