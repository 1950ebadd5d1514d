import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { describe, it } from 'node:test';
import { parseProxy } from '../../../../client/egress/proxy/proxy-url.ts';
import { connectBySocks } from '../../../../client/egress/proxy/socks-proxy.ts';
import { closedPort, listen, readAll } from '../../support.ts';

const never = new AbortController().signal;
const gateway = { host: 'gw.example', port: 443 };

/** Answers as a real proxy cannot be made to: these bytes, one after each message it gets, whatever that was. */
function scripted(answers: readonly Buffer[], then: (socket: Socket) => void = () => {}): Server {
  return createServer({ allowHalfOpen: true }, (socket) => {
    const left = [...answers];
    socket.on('data', () => {
      const answer = left.shift();
      if (answer === undefined) return;
      socket.write(answer);
      if (left.length === 0) then(socket);
    });
  });
}

const yes5 = Buffer.from([5, 0, 0, 1, 10, 0, 0, 1, 1, 187]);
const yes5name = Buffer.from([5, 0, 0, 3, 2, 103, 119, 1, 187]);
const yes4 = Buffer.from([0, 90, 0, 0, 0, 0, 0, 0]);

describe('connectBySocks()', () => {
  for (const [scheme, choice, yes] of [
    ['socks5h', [Buffer.from([5, 0])], yes5],
    ['socks5h', [Buffer.from([5, 0])], yes5name],
    ['socks4a', [], yes4],
  ] as const) {
    for (let at = 0; at <= yes.length; at++) {
      it(`keeps what follows the answer of ${scheme}, ${yes.length} bytes cut at ${at}`, async (t) => {
        const server = scripted([...choice, yes.subarray(0, at)], (socket) => {
          setImmediate(() => socket.end(Buffer.concat([yes.subarray(at), Buffer.from('SSH-2.0-x\r\n')])));
        });
        // An empty write is no answer: the rest follows at once.
        const proxy = parseProxy(`${scheme}://127.0.0.1:${await listen(t, server)}`, 'here');
        const socket = await connectBySocks(proxy, gateway, never);
        assert.equal(String(await readAll(socket)), 'SSH-2.0-x\r\n');
        socket.destroy();
      });
    }
  }

  it('keeps half-close: our end reaches the other side, whose answer reaches us', async (t) => {
    const server = scripted([Buffer.from([5, 0]), yes5], (socket) => {
      const rest = readAll(socket);
      void rest.then((bytes) => socket.end(Buffer.concat([Buffer.from('got '), bytes])));
    });
    const proxy = parseProxy(`socks5h://127.0.0.1:${await listen(t, server)}`, 'here');
    const socket = await connectBySocks(proxy, gateway, never);
    socket.end('all of it');
    assert.equal(String(await readAll(socket)), 'got all of it');
  });

  for (const [what, url, answers, code] of [
    ['a web server', 'socks5h://', [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')], 'PROXY_REFUSED'],
    ['a web server', 'socks4a://', [Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')], 'PROXY_REFUSED'],
    ['a refusal of two bytes', 'socks5h://', [Buffer.from([5, 0]), Buffer.from([5, 2])], 'PROXY_REFUSED'],
    ['no sign-in that we know', 'socks5h://u:p@', [Buffer.from([5, 255])], 'PROXY_SIGN_IN'],
    ['a sign-in that we have not', 'socks5h://', [Buffer.from([5, 255])], 'PROXY_SIGN_IN'],
    ['a wrong password', 'socks5h://u:canary@', [Buffer.from([5, 2]), Buffer.from([1, 1])], 'PROXY_SIGN_IN'],
    ['an end', 'socks5h://', [Buffer.from([5])], 'PROXY_REFUSED'],
    ['a refusal by SOCKS 4', 'socks4a://', [Buffer.from([0, 91, 0, 0, 0, 0, 0, 0])], 'PROXY_REFUSED'],
    ['an impossible user', 'socks5h://u:@', [Buffer.from([5, 2])], 'PROXY_REFUSED'],
  ] as const) {
    it(`tells of ${what} (${url})`, async (t) => {
      const server = scripted(answers, (socket) => socket.end());
      const proxy = parseProxy(`${url}127.0.0.1:${await listen(t, server)}`, 'here');
      await assert.rejects(connectBySocks(proxy, gateway, never), (error: Error & { code: string }) => {
        assert.equal(error.code, code);
        return !error.message.includes('canary');
      });
    });
  }

  it('does not wait for a silent proxy when time is up', async (t) => {
    const proxy = parseProxy(`socks5h://127.0.0.1:${await listen(t, createServer())}`, 'here');
    await assert.rejects(connectBySocks(proxy, gateway, AbortSignal.timeout(50)), {
      code: 'GATEWAY_TIMEOUT',
    });
  });

  it('says when nothing listens', async () => {
    const proxy = parseProxy(`socks5h://127.0.0.1:${await closedPort()}`, 'here');
    await assert.rejects(connectBySocks(proxy, gateway, never), { code: 'PROXY_UNREACHABLE' });
  });

  it('says when a name that it has to look up is not known', async (t) => {
    const proxy = parseProxy(`socks5://127.0.0.1:${await listen(t, createServer())}`, 'here');
    await assert.rejects(connectBySocks(proxy, { host: 'nowhere.invalid', port: 443 }, never), {
      code: 'GATEWAY_UNREACHABLE',
    });
  });
});
