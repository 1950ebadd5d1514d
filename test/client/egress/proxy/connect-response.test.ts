import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { requestConnect } from '../../../../client/egress/proxy/connect-response.ts';
import type { ConnectResponse } from '../../../../client/egress/proxy/connect-response.ts';
import { httpProxy } from '../../../../client/egress/proxy/http-proxy.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { listen, rawServer } from '../../support.ts';

const gateway = { host: 'gw.example', port: 443 };
const never = new AbortController().signal;

/** The response to CONNECT of a server that sends these chunks, a turn apart, and then a first line of SSH. */
async function responseTo(t: TestContext, ...chunks: readonly string[]): Promise<[ConnectResponse, string]> {
  const server = rawServer((socket) => {
    const rest = [...chunks, 'SSH-2.0-x'];
    const next = (): void => {
      const chunk = rest.shift();
      if (chunk === undefined) socket.end();
      else socket.write(chunk, 'latin1', () => setImmediate(next));
    };
    socket.setNoDelay(true).resume();
    next();
  });
  const socket = connect(await listen(t, server), '127.0.0.1');
  const response = await requestConnect(
    socket,
    { authority: 'gw.example:443', fields: {}, peer: 'p' },
    never,
  );
  const tail = Buffer.concat((await socket.toArray()) as Buffer[]).toString();
  return [response, tail];
}

/** Heads of a success that curl 7.88 accepts. */
const accepted: readonly (readonly [what: string, head: string])[] = [
  ['Content-Length twice', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n'],
  ['two different ones', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n'],
  [
    'Content-Length and Transfer-Encoding',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
  ],
  ['Transfer-Encoding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
  ['a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n'],
  ['a length that is no number', 'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n'],
  ['a folded field', 'HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n'],
  ['line feeds only', 'HTTP/1.1 200 OK\nVia: x\n\n'],
  ['line feeds too', 'HTTP/1.1 200 OK\r\nVia: x\n\r\n'],
  ['two carriage returns', 'HTTP/1.1 200 OK\r\r\n\r\n'],
  ['HTTP/1.0', 'HTTP/1.0 200 Connection established\r\n\r\n'],
  ['HTTP/1.2', 'HTTP/1.2 200 OK\r\n\r\n'],
  ['no reason', 'HTTP/1.1 200\r\n\r\n'],
  ['an empty reason', 'HTTP/1.1 200 \r\n\r\n'],
  ['two blanks', 'HTTP/1.1  200 OK\r\n\r\n'],
  ['a name with a blank', 'HTTP/1.1 200 OK\r\nFoo bar: x\r\n\r\n'],
  ['a blank before the colon', 'HTTP/1.1 200 OK\r\nFoo : x\r\n\r\n'],
  ['no name', 'HTTP/1.1 200 OK\r\n: x\r\n\r\n'],
  ['control characters', 'HTTP/1.1 200 OK\r\nFoo: a\x01b\x7f\r\n\r\n'],
  ['8-bit characters', 'HTTP/1.1 200 OK\r\nFoo: \xe4\r\n\r\n'],
  ['tabs', 'HTTP/1.1\t200\tOK\r\n\r\n'],
  ['zeros', 'HTTP/1.10 0200 OK\r\n\r\n'],
  ['no blank before the reason', 'HTTP/1.1 200OK\r\n\r\n'],
  ['a reason of 20 KiB', `HTTP/1.1 200 ${'x'.repeat(20_000)}\r\n\r\n`],
  ['a field of 60 KiB', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(60_000)}\r\n\r\n`],
  ['250 KiB of fields', `HTTP/1.1 200 OK\r\n${`X: ${'x'.repeat(9000)}\r\n`.repeat(28)}\r\n`],
  ['204', 'HTTP/1.1 204 No\r\n\r\n'],
  ['Connection: close', 'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n'],
  ['an upgrade', 'HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'],
  ['5,000 fields', `HTTP/1.1 200 OK\r\n${'X: a\r\n'.repeat(5000)}\r\n`],
  // Where curl gives up, and Node.js or browsers do not.
  ['an interim response', 'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'],
  ['a line without a colon', 'HTTP/1.1 200 OK\r\nfoo bar\r\n\r\n'],
];

describe('requestConnect()', () => {
  for (const [what, head] of accepted) {
    it(`accepts a success with ${what}, and leaves what follows it`, async (t) => {
      const [{ status }, tail] = await responseTo(t, head);
      assert.ok(status >= 200 && status < 300);
      assert.equal(tail, 'SSH-2.0-x');
    });
  }

  it('reads a head byte by byte', async (t) => {
    const [response, tail] = await responseTo(
      t,
      ...'HTTP/1.1 200 OK\r\nVia: a\r\n\tb\r\nVIA: c\r\n\r\n'.split(''),
    );
    assert.deepEqual(response.values('via'), ['a b', 'c']);
    assert.equal(tail, 'SSH-2.0-x');
  });

  for (const [what, head] of [
    ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['nothing but blanks', '\r\n\r\n\r\n'],
    ['HTTP/2', 'HTTP/2 200 OK\r\n\r\n'],
    ['lower case', 'http/1.1 200 OK\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n'],
    ['a head that is too large', `HTTP/1.1 200 OK\r\nX: ${'a'.repeat(400_000)}\r\n\r\n`],
    ['a line without end', `HTTP/1.1 200 ${'a'.repeat(400_000)}`],
    ['half a head', 'HTTP/1.1 200 OK\r\nX: a'],
  ] as const) {
    it(`refuses ${what}`, async (t) => {
      const server = rawServer((socket) => socket.resume().end(head, 'latin1'));
      const socket = connect(await listen(t, server), '127.0.0.1');
      const asked = requestConnect(socket, { authority: 'gw.example:443', fields: {}, peer: 'p' }, never);
      await assert.rejects(asked, { code: 'HTTP_UNEXPECTED' });
      assert.ok(socket.destroyed);
    });
  }

  it('sends no field that would end its line', async (t) => {
    const socket = connect(
      await listen(
        t,
        rawServer(() => {}),
      ),
      '127.0.0.1',
    );
    const fields = { 'Proxy-Authorization': 'Basic x\r\nEvil: 1' };
    const asked = requestConnect(socket, { authority: 'gw.example:443', fields, peer: 'p' }, never);
    await assert.rejects(asked, { code: 'ERR_INVALID_CHAR' });
    socket.destroy();
  });
});

describe('httpProxy() with a user and a password in its URL', () => {
  for (const [what, refusal] of [
    ['401', 'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'],
    ['401 without an offer', 'HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n'],
    ['407 without an offer', 'HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n'],
    ['407 without an offer, and closes', 'HTTP/1.1 407 No\r\n\r\n'],
    [
      '407 with schemes that are not known',
      'HTTP/1.1 407 No\r\nProxy-Authenticate: Bearer, Kerb\r\nContent-Length: 0\r\n\r\n',
    ],
    ['407 with an empty offer', 'HTTP/1.1 407 No\r\nProxy-Authenticate:\r\nContent-Length: 0\r\n\r\n'],
    [
      '407 with the offer of a server',
      'HTTP/1.1 407 No\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
    ],
    [
      '401 with the offer of a proxy',
      'HTTP/1.1 401 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n',
    ],
    [
      '403 with an offer',
      'HTTP/1.1 403 No\r\nProxy-Authenticate: Basic realm=a b\r\nContent-Length: 0\r\n\r\n',
    ],
    ['407 of two lengths', 'HTTP/1.1 407 No\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\nabc'],
  ] as const) {
    for (const password of ['right', 'wrong']) {
      it(`answers ${what} once by Basic, with a ${password} password`, async (t) => {
        const heads: string[] = [];
        const good = Buffer.from('u:right').toString('base64');
        const server = rawServer((socket, first) => {
          const answer = (head: string): void => {
            heads.push(head);
            const isGood = head.includes(`Proxy-Authorization: Basic ${good}\r\n`);
            socket.write(isGood ? 'HTTP/1.1 200 OK\r\n\r\n' : refusal);
            if (!isGood && what.endsWith('closes')) socket.end();
          };
          answer(first);
          socket.on('data', (chunk) => answer(chunk.toString())).resume();
        });
        const address = { host: '127.0.0.1', port: await listen(t, server) };
        const proxy = httpProxy({ address, tls: false, user: 'u', password: new Secret(password) });
        if (password === 'right') (await proxy.connect(gateway, never)).destroy();
        else await assert.rejects(proxy.connect(gateway, never), { code: 'PROXY_SIGN_IN' });
        assert.equal(heads.filter((head) => head.includes('Proxy-Authorization')).length, 1);
      });
    }
  }

  it('is refused by 401 without a password, as by any other status', async (t) => {
    const server = rawServer((socket) => socket.resume().end('HTTP/1.1 401 No\r\n\r\n'));
    const address = { host: '127.0.0.1', port: await listen(t, server) };
    await assert.rejects(httpProxy({ address, tls: false }).connect(gateway, never), {
      code: 'PROXY_REFUSED',
    });
  });
});
