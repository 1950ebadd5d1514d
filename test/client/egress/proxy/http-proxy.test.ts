import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import { chooseEgress } from '../../../../client/egress/choose.ts';
import { planRoute } from '../../../../client/egress/route/environment.ts';
import { httpProxy } from '../../../../client/egress/proxy/http-proxy.ts';
import { authority, certificate, key } from '../../certificates.ts';
import { answering, closedPort, listen, rawServer, temporaryDirectory } from '../../support.ts';

const gateway = { host: 'gw.example', port: 443 };
const never = new AbortController().signal;

/** A proxy that tunnels every CONNECT to one port, and the heads it has seen. */
function tunnelling(port: number, heads: string[]): Server {
  return rawServer((socket, head) => {
    heads.push(head);
    const target = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(target).pipe(socket);
    });
    target.on('error', () => socket.destroy());
  });
}

function caFile(t: TestContext): string {
  const path = join(temporaryDirectory(t), 'ca.pem');
  writeFileSync(path, authority);
  return path;
}

async function connectVia(t: TestContext, answer: string): Promise<unknown> {
  const port = await listen(t, answering(answer));
  return httpProxy({ address: { host: '127.0.0.1', port }, tls: false }).connect(gateway, never);
}

describe('httpProxy()', () => {
  it('asks with host and port, keeps the password until it is asked for it, and puts early bytes back', async (t) => {
    const heads: string[] = [];
    const target = await listen(
      t,
      createServer((socket) => socket.end('SSH-2.0-early')),
    );
    const port = await listen(t, tunnelling(target, heads));
    const way = { gateway, tls: true, proxy: { https: `http://m%40x:p%3A@127.0.0.1:${port}` } };
    await assert.rejects(chooseEgress(planRoute(way)).connect(gateway, never), { code: 'PROXY_REFUSED' });
    assert.match(heads[0]!, /^CONNECT gw\.example:443 HTTP\/1\.1\r\n/);
    assert.match(heads[0]!, /^Host: gw\.example:443\r$/im);
    assert.match(heads[0]!, /^Proxy-Connection: keep-alive\r$/im);
    assert.doesNotMatch(heads[0]!, /^Proxy-Authorization:/im);

    const proxy = httpProxy({ address: { host: '127.0.0.1', port }, tls: false });
    const socket = await proxy.connect(gateway, never);
    const chunks = await socket.toArray();
    assert.equal(Buffer.concat(chunks).toString(), 'SSH-2.0-early');
    socket.destroy();
  });

  it('brackets an IPv6 gateway', async (t) => {
    const heads: string[] = [];
    const port = await listen(
      t,
      rawServer((socket, head) => {
        heads.push(head);
        socket.end('HTTP/1.1 403 No\r\n\r\n');
      }),
    );
    const proxy = httpProxy({ address: { host: '127.0.0.1', port }, tls: false });
    await assert.rejects(proxy.connect({ host: '2001:db8::1', port: 443 }, never), { code: 'PROXY_REFUSED' });
    assert.match(heads[0]!, /^CONNECT \[2001:db8::1\]:443 HTTP\/1\.1\r\n/);
  });

  for (const [answer, code] of [
    ['HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n', 'PROXY_SIGN_IN'],
    ['HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n', 'PROXY_SIGN_IN'],
    ['HTTP/1.1 407 No\r\n\r\n', 'PROXY_SIGN_IN'],
    ['HTTP/1.1 403 Forbidden\r\nServer: squid/5.7\r\nContent-Length: 3\r\n\r\nno\n', 'PROXY_REFUSED'],
    ['HTTP/1.0 503 Service Unavailable\r\nVia: 1.1 cache (squid/5.7)\r\n\r\n', 'PROXY_REFUSED'],
    ['HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n', 'PROXY_REFUSED'],
    ['', 'PROXY_REFUSED'],
    ['HTTP/1.1 2', 'PROXY_REFUSED'],
    ['SSH-2.0-OpenSSH_9.2\r\n', 'PROXY_REFUSED'],
    [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(400 * 1024)}\r\n\r\n`, 'PROXY_REFUSED'],
  ] as const) {
    it(`says ${code} to ${JSON.stringify(answer.slice(0, 60))}`, async (t) => {
      await assert.rejects(connectVia(t, answer), { code });
    });
  }

  it('names the proxy that cannot be reached, without its password', async () => {
    const port = await closedPort();
    const way = { gateway, tls: true, proxy: { https: `http://u:canary@127.0.0.1:${port}` } };
    await assert.rejects(
      chooseEgress(planRoute(way)).connect(gateway, never),
      (error: Error & { code: string }) =>
        error.code === 'PROXY_UNREACHABLE' && !error.message.includes('canary'),
    );
  });

  it('does not wait for a silent proxy when time is up', async (t) => {
    const port = await listen(
      t,
      rawServer(() => {}),
    );
    const proxy = httpProxy({ address: { host: '127.0.0.1', port }, tls: false });
    await assert.rejects(proxy.connect(gateway, AbortSignal.timeout(50)), { code: 'GATEWAY_TIMEOUT' });
  });

  it('speaks TLS to an https proxy and, through it, TLS to the gateway', async (t) => {
    const ca = caFile(t);
    const target = await listen(
      t,
      createTlsServer({ key, cert: certificate }, (socket) => socket.end('inside')),
    );
    const inner = await listen(t, tunnelling(target, []));
    const port = await listen(
      t,
      createTlsServer({ key, cert: certificate }, (socket) => {
        const plain = connect(inner, '127.0.0.1');
        socket
          .on('error', () => {})
          .pipe(plain.on('error', () => {}))
          .pipe(socket);
      }),
    );
    const proxy = { https: `https://localhost:${port}` };
    const here = { host: 'localhost', port: target };
    const socket = await chooseEgress(planRoute({ gateway: here, tls: true, proxy, caFile: ca })).connect(
      here,
      never,
    );
    const chunks = await socket.toArray();
    assert.equal(Buffer.concat(chunks).toString(), 'inside');
    socket.destroy();
    await assert.rejects(chooseEgress(planRoute({ gateway: here, tls: true, proxy })).connect(here, never), {
      code: 'TLS_FAILED',
    });
  });
});
