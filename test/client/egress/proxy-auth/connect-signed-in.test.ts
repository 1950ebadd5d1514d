import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import type { Egress } from '../../../../client/egress/egress.ts';
import { httpProxy } from '../../../../client/egress/http-proxy.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { listen } from '../../support.ts';
import { digestProxy, ntlmProxy } from './strict-proxies.ts';

const gateway = { host: 'gw.example', port: 443 };
const never = new AbortController().signal;
const established = 'HTTP/1.1 200 Connection established\r\n\r\n';

/** A 407 as proxies send them, with a page. */
function refusal(...offers: readonly string[]): string {
  const headers = offers.map((offer) => `Proxy-Authenticate: ${offer}\r\n`).join('');
  return `HTTP/1.1 407 Proxy Authentication Required\r\n${headers}Content-Length: 5\r\n\r\nsorry`;
}

interface Seen {
  /** Each connection with what it asked, in the order in which it did: the value of Proxy-Authorization, or nothing. */
  readonly connections: string[][];
  /** How many were open at once, at most. */
  most: number;
}

/** What to do about the newest request of a connection. */
type Act = (socket: Socket, authorization: string, asked: readonly string[], seen: Seen) => void;

/** A proxy that does what it is told, and the egress through it. */
async function scripted(t: TestContext, act: Act, user?: string): Promise<{ egress: Egress; seen: Seen }> {
  const seen: Seen = { connections: [], most: 0 };
  let open = 0;
  const server = createServer((socket) => {
    const asked: string[] = [];
    seen.connections.push(asked);
    seen.most = Math.max(seen.most, ++open);
    socket.on('close', () => open--);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end === -1 || !text.startsWith('CONNECT')) return;
      const authorization = /^Proxy-Authorization: (.*)$/im.exec(text.slice(0, end))?.[1] ?? '';
      text = text.slice(end + 4);
      asked.push(authorization);
      act(socket, authorization, asked, seen);
    });
  });
  const port = await listen(t, server);
  const egress = httpProxy(
    {
      address: { host: '127.0.0.1', port },
      tls: false,
      ...(user === undefined ? {} : { user, password: new Secret('canary') }),
    },
    undefined,
    { mayAsk: false },
  );
  return { egress, seen };
}

const basicValue = `Basic ${Buffer.from('alice:canary').toString('base64')}`;

/** Wants Basic and believes it. */
const basicAct: Act = (socket, authorization) =>
  void socket.write(authorization === basicValue ? established : refusal('Basic realm="x"'));

async function opens(egress: Egress): Promise<void> {
  (await egress.connect(gateway, never)).destroy();
}

async function failure(egress: Egress): Promise<Error & { code: string; hint?: string }> {
  const error = await egress.connect(gateway, never).then(
    () => assert.fail('it was let through'),
    (error: unknown) => error as Error & { code: string; hint?: string },
  );
  assert.ok(!`${error.message} ${error.hint}`.includes('canary'));
  return error;
}

describe('a sign-in at a proxy', () => {
  it('takes place on the connection of the 407, and comes first at the next one', async (t) => {
    const { egress, seen } = await scripted(t, basicAct, 'alice');
    await opens(egress);
    await opens(egress);
    assert.deepEqual(seen.connections, [['', basicValue], [basicValue]]);
  });

  for (const [what, answer] of [
    [
      'closes after it',
      refusal('Basic realm="x"').replace('Content-Length', 'Connection: close\r\nContent-Length'),
    ],
    ['speaks HTTP/1.0', refusal('Basic realm="x"').replace('HTTP/1.1', 'HTTP/1.0')],
    ['does not say how long its page is', refusal('Basic realm="x"').replace(/Content-Length.*\r\n/, '')],
    ['sends more than it said', `${refusal('Basic realm="x"')} and more`],
    [
      'sends a page that is too large',
      refusal('Basic realm="x"').replace('Length: 5', `Length: ${2 ** 20}`) + 'x'.repeat(2 ** 20),
    ],
    [
      'sends damaged chunks',
      refusal('Basic realm="x"').replace(
        'Content-Length: 5\r\n\r\n',
        'Transfer-Encoding: chunked\r\n\r\n\r\n',
      ),
    ],
  ] as const) {
    it(`goes on over another connection when the proxy ${what}`, async (t) => {
      const act: Act = (socket, authorization) => {
        if (authorization === basicValue) return void socket.write(established);
        socket.on('error', () => {});
        if (what.startsWith('closes') || what.startsWith('does not')) socket.end(answer);
        else socket.write(answer);
      };
      const { egress, seen } = await scripted(t, act, 'alice');
      await opens(egress);
      assert.deepEqual(seen.connections, [[''], [basicValue]]);
    });
  }

  for (const [what, answer] of [
    [
      'in chunks',
      refusal('Basic realm="x"').replace(
        'Content-Length: 5\r\n\r\nsorry',
        'Transfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n',
      ),
    ],
    [
      'of no bytes',
      refusal('Basic realm="x"').replace('Content-Length: 5\r\n\r\nsorry', 'Content-Length: 0\r\n\r\n'),
    ],
    [
      'by HTTP/1.0 with keep-alive',
      refusal('Basic realm="x"')
        .replace('HTTP/1.1', 'HTTP/1.0')
        .replace('Content', 'Proxy-Connection: Keep-Alive\r\nContent'),
    ],
  ] as const) {
    it(`reads the page of the 407 off the connection: ${what}, byte by byte`, async (t) => {
      const act: Act = (socket, authorization) => {
        if (authorization === basicValue) return void socket.write(established);
        const bytes = [...answer];
        const next = (): void => {
          const byte = bytes.shift();
          if (byte !== undefined) socket.write(byte, () => setImmediate(next));
        };
        next();
      };
      const { egress, seen } = await scripted(t, act, 'alice');
      await opens(egress);
      assert.deepEqual(seen.connections, [['', basicValue]]);
    });
  }

  it('goes on over another connection when the proxy closes although it said it would not', async (t) => {
    const act: Act = (socket, authorization, asked) => {
      if (authorization === '') return void socket.write(refusal('Basic realm="x"'));
      if (asked.length > 1) socket.resetAndDestroy();
      else socket.write(established);
    };
    const { egress, seen } = await scripted(t, act, 'alice');
    await opens(egress);
    assert.deepEqual(seen.connections, [['', basicValue], [basicValue]]);
  });

  it('shows a wrong password once, and not again later', async (t) => {
    const { egress, seen } = await scripted(
      t,
      (socket) => void socket.write(refusal('Basic realm="x"')),
      'alice',
    );
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    const shown = seen.connections.flat().filter((authorization) => authorization !== '');
    assert.deepEqual(shown, [basicValue]);
  });

  it('shows a wrong password once also when many want to sign in at the same time', async (t) => {
    const { egress, seen } = await scripted(
      t,
      (socket) => void socket.write(refusal('Basic realm="x"')),
      'alice',
    );
    const all = await Promise.all(Array.from({ length: 20 }, () => failure(egress)));
    assert.ok(all.every(({ code }) => code === 'PROXY_SIGN_IN'));
    assert.equal(seen.connections.flat().filter((authorization) => authorization !== '').length, 1);
  });

  it('does not show a password by another scheme after one has refused it', async (t) => {
    const act: Act = (socket) =>
      void socket.write(refusal('Digest realm="x", nonce="n", qop="auth"', 'Basic realm="x"'));
    const { egress, seen } = await scripted(t, act, 'alice');
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    assert.deepEqual(
      seen.connections.flat().map((each) => each.split(' ')[0]),
      ['', 'Digest'],
    );
  });

  it('tries once more what was good before: proxies refuse too many at once in the same words', async (t) => {
    let busy = false;
    const act: Act = (socket, authorization, asked, seen) => {
      if (!busy) return basicAct(socket, authorization, asked, seen);
      busy = false;
      socket.write(refusal('Basic realm="x"'));
    };
    const { egress } = await scripted(t, act, 'alice');
    await opens(egress);
    busy = true;
    await opens(egress);
  });

  it('has few sign-ins at a time', async (t) => {
    const waiting: (() => void)[] = [];
    let most = 0;
    const act: Act = (socket, authorization) => {
      if (authorization === '') return void socket.write(refusal('Basic realm="x"'));
      most = Math.max(
        most,
        waiting.push(() => socket.write(established)),
      );
      setImmediate(() => waiting.shift()?.());
    };
    const { egress } = await scripted(t, act, 'alice');
    const sockets = await Promise.all(Array.from({ length: 50 }, () => egress.connect(gateway, never)));
    for (const socket of sockets) socket.destroy();
    assert.ok(most <= 4, `${most} at once`);
  });

  it('gives up the wait for its turn when time is up', async (t) => {
    const act: Act = (socket, authorization) =>
      void (authorization === '' && socket.write(refusal('Basic realm="x"')));
    const { egress } = await scripted(t, act, 'alice');
    const first = new AbortController();
    const holder = egress.connect(gateway, first.signal);
    const late = egress.connect(gateway, AbortSignal.timeout(100));
    await assert.rejects(late, { code: 'GATEWAY_TIMEOUT' });
    first.abort();
    await assert.rejects(holder, { code: 'GATEWAY_TIMEOUT' });
  });

  it('takes the strongest scheme that it can, whatever the order of the offers', async (t) => {
    const act: Act = (socket, authorization) => {
      if (authorization !== '') return void socket.write(established);
      socket.write(
        refusal(
          'Basic realm="x"',
          'Digest realm="x", nonce="n", qop="auth", algorithm=MD5',
          'Negotiate',
          'NTLM',
        ),
      );
    };
    const { egress, seen } = await scripted(t, act, 'CORP\\alice');
    await opens(egress);
    // No Kerberos for a proxy that is given by address.
    assert.match(seen.connections[0]![1]!, /^NTLM TlRMTVNTUAAB/);
  });

  it('goes on with the next scheme where one does not begin, and shows nothing of the password by it', async (t) => {
    const act: Act = (socket, authorization) => {
      if (authorization === basicValue) return void socket.write(established);
      socket.write(refusal('NTLM', 'Basic realm="x"'));
    };
    const { egress, seen } = await scripted(t, act, 'alice');
    await opens(egress);
    const words = seen.connections.flat().map((each) => each.slice(0, 17));
    assert.deepEqual(words, ['', 'NTLM TlRMTVNTUAAB', basicValue.slice(0, 17)]);
  });

  it('speaks NTLM by the name of Negotiate where only that is offered', async (t) => {
    const { proxy } = await ntlmProxy(t, { name: 'alice', domain: 'CORP', password: 'canary' }, 'Negotiate');
    await opens(httpProxy({ ...proxy, user: 'CORP\\alice', password: new Secret('canary') }));
  });

  it('stops after three rounds when the proxy asks for ever', async (t) => {
    let count = 0;
    const act: Act = (socket) =>
      void socket.write(refusal(`Digest realm="x", nonce="${count++}", qop="auth", stale=true`));
    const { egress, seen } = await scripted(t, act, 'alice');
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    assert.equal(seen.connections.flat().length, 4);
  });
});

describe('Digest', () => {
  for (const algorithm of ['MD5', 'MD5-sess', 'SHA-256', 'SHA-256-sess', 'SHA-512-256'] as const) {
    it(`gets through a strict proxy by ${algorithm}, and over nonces that grow stale`, async (t) => {
      const { proxy, seen } = await digestProxy(t, { user: 'alice', password: 'cänary', algorithm, uses: 2 });
      const egress = httpProxy({ ...proxy, user: 'alice', password: new Secret('cänary') });
      for (let times = 0; times < 5; times++) await opens(egress);
      assert.deepEqual(seen, ['asked', 'ok', 'ok', 'stale', 'ok', 'ok', 'stale', 'ok']);
    });
  }
});

describe('NTLM', () => {
  const alice = { name: 'alice', domain: 'CORP', password: 'canary' };

  it('gets through a strict proxy, whatever the case of the name', async (t) => {
    const { proxy, seen } = await ntlmProxy(t, alice);
    const egress = httpProxy({ ...proxy, user: 'CORP\\ALICE', password: new Secret('canary') });
    await opens(egress);
    await opens(egress);
    // Three messages need one connection; the second one begins without being asked.
    assert.deepEqual(seen, ['asked', 'hello', 'ok', 'hello', 'ok']);
  });

  it('begins again on another connection when the proxy closes before the handshake', async (t) => {
    const { proxy, seen } = await ntlmProxy(t, alice, 'NTLM', 'closes when it asks');
    await opens(httpProxy({ ...proxy, user: 'CORP\\alice', password: new Secret('canary') }));
    assert.deepEqual(seen, ['asked', 'hello', 'ok']);
  });

  for (const how of ['closes with the challenge', 'resets at the proof'] as const) {
    it(`is over when the proxy ${how}: it needs one connection`, async (t) => {
      const { proxy, seen } = await ntlmProxy(t, alice, 'NTLM', how);
      const error = await failure(
        httpProxy({ ...proxy, user: 'CORP\\alice', password: new Secret('canary') }),
      );
      assert.equal(error.code, 'PROXY_REFUSED');
      assert.deepEqual(seen.slice(0, 2), ['asked', 'hello']);
    });
  }

  for (const token of ['AAAA', 'TlRMTVNTUAAC', '====', 'TlRMTVNTUAABAAAABoIIAAAAAAAAAAAAAAAAAAAAAAA=']) {
    it(`does not understand a challenge like ${token}`, async (t) => {
      const act: Act = (socket, authorization) =>
        void socket.write(refusal(authorization === '' ? 'NTLM' : `NTLM ${token}`));
      const { egress } = await scripted(t, act, 'CORP\\alice');
      assert.ok(['PROXY_REFUSED', 'PROXY_SIGN_IN'].includes((await failure(egress)).code));
    });
  }
});

describe('a proxy that', () => {
  for (const [what, offers, hint] of [
    ['offers nothing', [], ''],
    ['offers what nobody knows', ['Bearer', 'X-Thing a="b"'], ''],
    ['wants a password', ['Basic realm="x"'], /^export POSTERN_PROXY_USER='USER' POSTERN_PROXY_PASSWORD=/],
    ['wants a password of Windows', ['Negotiate', 'NTLM'], /^export POSTERN_PROXY_USER='DOMAIN\\USER' /],
  ] as const) {
    it(`${what} is told what it wants, with a hint that helps`, async (t) => {
      const { egress } = await scripted(t, (socket) => void socket.write(refusal(...offers)));
      const error = await failure(egress);
      assert.equal(error.code, 'PROXY_SIGN_IN');
      if (hint === '') assert.equal(error.hint, '');
      else assert.match(error.hint!, hint);
    });
  }

  for (const [what, act, code] of [
    [
      'dies in the middle of its answer',
      (socket) => void socket.write('HTTP/1.1 407 Pro', () => socket.destroy()),
      'PROXY_REFUSED',
    ],
    ['resets', (socket) => void socket.resetAndDestroy(), 'PROXY_REFUSED'],
    [
      'sends 100 KiB of headers',
      (socket) =>
        void socket
          .on('error', () => {})
          .write(refusal(...Array.from({ length: 50 }, () => `Basic realm="${'x'.repeat(2048)}"`))),
      'PROXY_REFUSED',
    ],
    [
      'sends 100 KiB of headers to the password',
      (socket, authorization) =>
        void socket
          .on('error', () => {})
          .write(
            authorization === ''
              ? refusal('Basic realm="x"')
              : `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(102_400)}\r\n\r\n`,
          ),
      'PROXY_REFUSED',
    ],
    [
      'refuses the target after the sign-in',
      (socket, authorization) =>
        void socket.write(
          authorization === ''
            ? refusal('Basic realm="x"')
            : 'HTTP/1.1 403 Forbidden\r\nServer: squid\r\nContent-Length: 0\r\n\r\n',
        ),
      'PROXY_REFUSED',
    ],
    [
      'is gone after the 407',
      (socket, authorization) =>
        void (authorization === '' ? socket.write(refusal('Basic realm="x"')) : socket.resetAndDestroy()),
      'PROXY_REFUSED',
    ],
  ] as readonly (readonly [string, Act, string])[]) {
    it(`${what} is named`, async (t) => {
      const { egress } = await scripted(t, act, 'alice');
      assert.equal((await failure(egress)).code, code);
    });
  }

  it('drips its answer is waited for no longer than there is time', async (t) => {
    const act: Act = (socket) => {
      socket.on('error', () => {}).write('HTTP/1.1 407 x\r\n');
      const timer = setInterval(() => socket.write('X: x\r\n'), 10);
      socket.on('close', () => clearInterval(timer));
    };
    const { egress } = await scripted(t, act, 'alice');
    await assert.rejects(egress.connect(gateway, AbortSignal.timeout(200)), { code: 'GATEWAY_TIMEOUT' });
  });
});
