import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { createServer as createTlsServer } from 'node:tls';
import type { Egress } from '../../../../client/egress/egress.ts';
import { httpProxy } from '../../../../client/egress/proxy/http-proxy.ts';
import { secureEgress } from '../../../../client/egress/tls/tls.ts';
import { Secret } from '../../../../protocol/secret.ts';
import { authority, certificate, key } from '../../certificates.ts';
import { listen, temporaryDirectory } from '../../support.ts';
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
}

/** What a proxy answers to the newest request of a connection, where it does nothing else with it. */
type Act = (socket: Socket, authorization: string, asked: readonly string[]) => string | undefined;

/** A proxy that does what it is told, and the egress through it. */
async function scripted(t: TestContext, act: Act, user?: string): Promise<{ egress: Egress; seen: Seen }> {
  const seen: Seen = { connections: [] };
  const server = createServer((socket) => {
    const asked: string[] = [];
    seen.connections.push(asked);
    socket.on('error', () => {});
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end === -1 || !text.startsWith('CONNECT')) return;
      const authorization = /^Proxy-Authorization: (.*)$/im.exec(text.slice(0, end))?.[1] ?? '';
      text = text.slice(end + 4);
      asked.push(authorization);
      const answer = act(socket, authorization, asked);
      if (answer !== undefined) socket.write(answer);
    });
  });
  const port = await listen(t, server);
  const egress = httpProxy(
    {
      address: { host: '127.0.0.1', port },
      tls: false,
      ...(user === undefined ? {} : { user, password: new Secret('canary') }),
    },
    {},
    { isPromptAllowed: false },
  );
  return { egress, seen };
}

const askBasic = refusal('Basic realm="x"');
const basicValue = `Basic ${Buffer.from('alice:canary').toString('base64')}`;

/** Wants Basic and believes it. */
const basicAct: Act = (_socket, authorization) => (authorization === basicValue ? established : askBasic);

/** Nothing is right. */
const refuseAll: Act = () => askBasic;

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
      const isLast = what.startsWith('closes') || what.startsWith('does not');
      const act: Act = (socket, authorization) => {
        if (authorization === basicValue) return established;
        if (!isLast) return answer;
        socket.end(answer);
        return undefined;
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
        if (authorization === basicValue) return established;
        const next = (at: number): void => {
          if (at < answer.length) socket.write(answer[at]!, () => setImmediate(next, at + 1));
        };
        next(0);
        return undefined;
      };
      const { egress, seen } = await scripted(t, act, 'alice');
      await opens(egress);
      assert.deepEqual(seen.connections, [['', basicValue]]);
    });
  }

  it('goes on over another connection when the proxy closes although it said it would not', async (t) => {
    const { egress, seen } = await scripted(
      t,
      (socket, authorization, asked) => {
        if (authorization === '') return askBasic;
        if (asked.length === 1) return established;
        socket.resetAndDestroy();
        return undefined;
      },
      'alice',
    );
    await opens(egress);
    assert.deepEqual(seen.connections, [['', basicValue], [basicValue]]);
  });

  it('shows a wrong password once, and not again later', async (t) => {
    const { egress, seen } = await scripted(t, refuseAll, 'alice');
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    const shown = seen.connections.flat().filter((authorization) => authorization !== '');
    assert.deepEqual(shown, [basicValue]);
  });

  it('shows a wrong password once also when many want to sign in at the same time', async (t) => {
    const { egress, seen } = await scripted(t, refuseAll, 'alice');
    const all = await Promise.all(Array.from({ length: 20 }, () => failure(egress)));
    assert.ok(all.every(({ code }) => code === 'PROXY_SIGN_IN'));
    assert.equal(seen.connections.flat().filter((authorization) => authorization !== '').length, 1);
  });

  it('does not show a password by another scheme after one has refused it', async (t) => {
    const offers = refusal('Digest realm="x", nonce="n", qop="auth"', 'Basic realm="x"');
    const { egress, seen } = await scripted(t, () => offers, 'alice');
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    assert.deepEqual(
      seen.connections.flat().map((each) => each.split(' ')[0]),
      ['', 'Digest'],
    );
  });

  it('tries once more what was good before: proxies refuse too many at once in the same words', async (t) => {
    let busy = false;
    const act: Act = (...request) => {
      if (!busy) return basicAct(...request);
      busy = false;
      return askBasic;
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
      if (authorization === '') return askBasic;
      const count = waiting.push(() => socket.write(established));
      most = Math.max(most, count);
      setImmediate(() => waiting.shift()?.());
      return undefined;
    };
    const { egress } = await scripted(t, act, 'alice');
    const sockets = await Promise.all(Array.from({ length: 50 }, () => egress.connect(gateway, never)));
    for (const socket of sockets) socket.destroy();
    assert.ok(most <= 4, `${most} at once`);
  });

  it('gives up the wait for its turn when time is up', async (t) => {
    const { egress } = await scripted(t, (_, said) => (said === '' ? askBasic : undefined), 'alice');
    const first = new AbortController();
    const holder = egress.connect(gateway, first.signal);
    const late = egress.connect(gateway, AbortSignal.timeout(100));
    await assert.rejects(late, { code: 'GATEWAY_TIMEOUT' });
    first.abort();
    await assert.rejects(holder, { code: 'GATEWAY_TIMEOUT' });
  });

  it('takes the strongest scheme that it can, whatever the order of the offers', async (t) => {
    const digest = 'Digest realm="x", nonce="n", qop="auth", algorithm=MD5';
    const offers = refusal('Basic realm="x"', digest, 'Negotiate', 'NTLM');
    const { egress, seen } = await scripted(
      t,
      (_, said) => (said === '' ? offers : established),
      String.raw`CORP\alice`,
    );
    await opens(egress);
    // No Kerberos for a proxy that is given by address.
    assert.match(seen.connections[0]![1]!, /^NTLM TlRMTVNTUAAB/);
  });

  it('goes on with the next scheme where one does not begin, and shows nothing of the password by it', async (t) => {
    const offers = refusal('NTLM', 'Basic realm="x"');
    const { egress, seen } = await scripted(
      t,
      (_, said) => (said === basicValue ? established : offers),
      'alice',
    );
    await opens(egress);
    const words = seen.connections.flat().map((each) => each.slice(0, 17));
    assert.deepEqual(words, ['', 'NTLM TlRMTVNTUAAB', basicValue.slice(0, 17)]);
  });

  it('does not give the password itself to who asks for it after something better has gone well', async (t) => {
    let isOther = false;
    const offers = refusal('Digest realm="x", nonce="n", qop="auth"', 'Basic realm="x"');
    const act: Act = (_, said) => {
      if (isOther) return said.startsWith('Basic') ? established : askBasic;
      return said.startsWith('Digest') ? established : offers;
    };
    const { egress, seen } = await scripted(t, act, 'alice');
    await opens(egress);
    isOther = true;
    assert.equal((await failure(egress)).code, 'PROXY_SIGN_IN');
    assert.ok(seen.connections.flat().every((said) => !said.startsWith('Basic')));
  });

  it('speaks NTLM by the name of Negotiate where only that is offered', async (t) => {
    const { proxy } = await ntlmProxy(t, { name: 'alice', domain: 'CORP', password: 'canary' }, 'Negotiate');
    await opens(httpProxy({ ...proxy, user: 'CORP\\alice', password: new Secret('canary') }));
  });

  it('stops after three rounds when the proxy asks for ever', async (t) => {
    let count = 0;
    const act: Act = () => refusal(`Digest realm="x", nonce="${count++}", qop="auth", stale=true`);
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

  it('gets through a proxy that is spoken to by TLS, on one connection', async (t) => {
    const { proxy, seen } = await ntlmProxy(t, alice);
    let connections = 0;
    const server = createTlsServer({ key, cert: certificate }, (socket) => {
      connections++;
      const plain = connect(proxy.address.port, '127.0.0.1');
      socket.on('error', () => plain.destroy());
      plain.on('error', () => socket.destroy());
      socket.pipe(plain).pipe(socket);
    });
    const caFile = join(temporaryDirectory(t), 'ca.pem');
    writeFileSync(caFile, authority);
    const address = { host: 'localhost', port: await listen(t, server) };
    const credentials = { user: 'CORP\\alice', password: new Secret('canary') };
    await opens(httpProxy({ address, tls: true, ...credentials }, { caFile }));
    assert.deepEqual([seen, connections], [['asked', 'hello', 'ok'], 1]);
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
      const offer = `NTLM ${token}`;
      const { egress } = await scripted(t, (_, said) => refusal(said === '' ? 'NTLM' : offer), 'CORP\\alice');
      assert.ok(['PROXY_REFUSED', 'PROXY_SIGN_IN'].includes((await failure(egress)).code));
    });
  }
});

const reset: Act = (socket) => {
  socket.resetAndDestroy();
  return undefined;
};

describe('a proxy that', () => {
  for (const [what, offers, hint] of [
    ['offers nothing', [], ''],
    ['offers what nobody knows', ['Bearer', 'X-Thing a="b"'], ''],
    ['wants a password', ['Basic realm="x"'], /^export POSTERN_PROXY_USER='USER' POSTERN_PROXY_PASSWORD=/],
    ['wants a password of Windows', ['Negotiate', 'NTLM'], /^export POSTERN_PROXY_USER='DOMAIN\\USER' /],
  ] as const) {
    it(`${what} is told what it wants, with a hint that helps`, async (t) => {
      const { egress } = await scripted(t, () => refusal(...offers));
      const error = await failure(egress);
      assert.equal(error.code, 'PROXY_SIGN_IN');
      if (hint === '') assert.equal(error.hint, '');
      else assert.match(error.hint!, hint);
    });
  }

  const large = 'x'.repeat(409_600);
  const lines = Array.from({ length: 200 }, () => `Basic realm="${large.slice(0, 2048)}"`);
  const denied = 'HTTP/1.1 403 Forbidden\r\nServer: squid\r\nContent-Length: 0\r\n\r\n';
  const faults: readonly (readonly [what: string, act: Act])[] = [
    [
      'dies in the middle of its answer',
      (socket) => {
        socket.end('HTTP/1.1 407 Pro');
        return undefined;
      },
    ],
    ['resets', reset],
    ['sends 400 KiB of headers', () => refusal(...lines)],
    [
      'sends 400 KiB of headers to the password',
      (_, said) => (said === '' ? askBasic : `HTTP/1.1 200 OK\r\nX: ${large}\r\n\r\n`),
    ],
    ['refuses the target after the sign-in', (_, said) => (said === '' ? askBasic : denied)],
    ['is gone after the 407', (...request) => (request[1] === '' ? askBasic : reset(...request))],
  ];
  for (const [what, act] of faults) {
    it(`${what} is named`, async (t) => {
      const { egress } = await scripted(t, act, 'alice');
      assert.equal((await failure(egress)).code, 'PROXY_REFUSED');
    });
  }

  it('says yes and sends a page is named, and not the gateway', async (t) => {
    const page = '<html><body>Please accept our terms first.</body></html>';
    const { egress } = await scripted(t, () => `HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n${page}`);
    assert.equal((await failure(secureEgress(egress, {}))).code, 'PROXY_REFUSED');
  });

  it('drips its answer is waited for no longer than there is time', async (t) => {
    const { egress } = await scripted(
      t,
      (socket) => {
        const timer = setInterval(() => socket.write('X: x\r\n'), 10);
        socket.on('error', () => {}).on('close', () => clearInterval(timer));
        return 'HTTP/1.1 407 x\r\n';
      },
      'alice',
    );
    await assert.rejects(egress.connect(gateway, AbortSignal.timeout(200)), { code: 'GATEWAY_TIMEOUT' });
  });
});
