// SECURITY R17, A6, rules 3 and 19: who comes back to a tunnel must be the one who opened it, with the tunnel's secret, in
// a request of its own, and still allowed; the bytes are never wrong, and what a peer can make the gateway keep is bounded.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { TunnelError } from '../../protocol/errors.ts';
import { parseTarget } from '../../protocol/target.ts';
import type { Authenticator, Principal } from '../../server/auth/authenticator.ts';
import type { Policy } from '../../server/policy/policy.ts';
import type { Resume, SessionRecord } from '../../server/session/sessions.ts';
import {
  codeOf,
  dial,
  exchange,
  generousLimits,
  readHead,
  startEcho,
  startParts,
  startTarget,
  tokenAuthenticator,
} from '../server/support/gateway-parts.ts';
import type { Parts } from '../server/support/gateway-parts.ts';
import { upgradeHead, webSocketFields } from '../server/support/peers.ts';
import { openTunnel, rejoinFields, rejoinTunnel, v1, v4, Wire } from './support/relay-wire.ts';
import type { Known, WireOptions } from './support/relay-wire.ts';

type Tokens = Record<string, Partial<Principal> | 'expired'>;

/** Tokens that can be changed while the gateway runs. */
function tokensOf(tokens: Tokens): Authenticator {
  return tokenAuthenticator(async (credentials) => {
    const [credential] = credentials;
    if (credential === undefined) throw new TunnelError('TOKEN_MISSING', 'no token');
    const principal = credential.kind === 'token' ? tokens[credential.token.reveal()] : undefined;
    if (principal === undefined || principal === 'expired')
      throw new TunnelError('TOKEN_INVALID', 'bad token');
    return {
      issuer: 'test',
      subject: 'alice',
      groups: new Set(),
      issuedAt: new Date(),
      expiresAt: new Date(Date.now() + 60_000),
      ...principal,
    };
  });
}

interface Cut {
  readonly parts: Parts;
  readonly known: Known;
  readonly target: number;
  readonly end: () => Promise<void>;
}

type Replace = NonNullable<Parameters<typeof startParts>[0]>;

/** A gateway and an echo behind it. */
async function startWithEcho(
  replace: Replace = {},
): Promise<{ parts: Parts; target: number; end: () => Promise<void> }> {
  const [echo, parts] = [await startEcho(), await startParts(replace)];
  return {
    parts,
    target: echo.port,
    async end() {
      await parts.close();
      echo.close();
    },
  };
}

/** A tunnel that has lost its connection. */
async function openAndCut(replace: Replace = {}): Promise<Cut> {
  const { parts, target, end } = await startWithEcho(replace);
  const { wire, known } = await openTunnel(parts.port, target);
  wire.drop();
  while (parts.relays.detachedCount === 0) await turn();
  return { parts, known, target, end };
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function codeFrom(parts: Parts, path: string, options: WireOptions): Promise<string> {
  const answer = await Wire.open(parts.port, path, options);
  if (!(answer instanceof Wire)) return `${answer.status} ${answer.code}`;
  answer.drop();
  return 'accepted';
}

/** That the tunnel is still there, whole, for whom it belongs to. */
async function assertWhole({ parts, known }: Cut, count: number): Promise<void> {
  const wire = await rejoinTunnel(parts.port, known, { count });
  assert.ok(wire instanceof Wire, JSON.stringify(wire));
  wire.socket.send(Buffer.from('still here'));
  await wire.until('still here');
  wire.drop();
}

describe('a request to go on with a tunnel', () => {
  const tokens: Tokens = {
    good: {},
    bob: { subject: 'bob' },
    'other-issuer': { issuer: 'elsewhere' },
    'other-key': { keyThumbprint: 'k2' },
    old: 'expired',
  };

  /** How a request differs from a valid one, and the answer to it. */
  const wrong: Readonly<
    Record<string, readonly [code: string, (known: Known) => WireOptions & { readonly query?: string }]>
  > = {
    'an unknown name': [
      '410 TUNNEL_GONE',
      ({ secret }) => {
        const other = { sid: `test.${'A'.repeat(43)}`, secret };
        return { query: `sid=${other.sid}&ack=0`, fields: rejoinFields(other, { count: 1 }) };
      },
    ],
    'the token of another user': ['410 TUNNEL_GONE', () => ({ token: 'bob' })],
    'the token of the same subject at another issuer': ['410 TUNNEL_GONE', () => ({ token: 'other-issuer' })],
    'a token that is bound to another key': ['410 TUNNEL_GONE', () => ({ token: 'other-key' })],
    'no token': ['401 TOKEN_INVALID', () => ({ token: '' })],
    'an expired token': ['401 TOKEN_INVALID', () => ({ token: 'old' })],
    'a token that is not valid': ['401 TOKEN_INVALID', () => ({ token: 'whatever' })],
    'no proof': ['400 REQUEST_INVALID', () => ({ fields: {} })],
    'a proof with another secret': [
      '410 TUNNEL_GONE',
      ({ sid }) => ({ fields: rejoinFields({ sid, secret: 'x'.repeat(43) }, { count: 1 }) }),
    ],
    'a proof for another tunnel': [
      '410 TUNNEL_GONE',
      ({ secret }) => ({ fields: rejoinFields({ sid: 'test.other', secret }, { count: 1 }) }),
    ],
    'a proof for another position': [
      '410 TUNNEL_GONE',
      (known) => ({ fields: rejoinFields(known, { count: 1, ack: 1 }) }),
    ],
    'a proof for another count': [
      '410 TUNNEL_GONE',
      (known) => {
        const field = rejoinFields(known, { count: 1 })['postern-rejoin']!;
        return { fields: { 'postern-rejoin': field.replace('count=1', 'count=2') } };
      },
    ],
    'a proof twice': [
      '400 REQUEST_INVALID',
      (known) => {
        const field = rejoinFields(known, { count: 1 })['postern-rejoin']!;
        return { fields: { 'postern-rejoin': `${field}, ${field}` } };
      },
    ],
    'the subprotocol of relay v4': ['400 REQUEST_INVALID', () => ({ subprotocols: [v4] })],
    'the subprotocol of relay v4 and no proof': [
      '410 TUNNEL_GONE',
      () => ({ subprotocols: [v4], fields: {} }),
    ],
    'the subprotocol of nassh and no proof': [
      '410 TUNNEL_GONE',
      () => ({ subprotocols: ['ssh'], fields: {} }),
    ],
    'no subprotocol': ['400 REQUEST_INVALID', () => ({ subprotocols: [] })],
    'another subprotocol': ['400 REQUEST_INVALID', () => ({ subprotocols: ['postern.tcp.v1'] })],
    'no name': ['400 REQUEST_INVALID', () => ({ query: 'ack=0' })],
    'two names': ['400 REQUEST_INVALID', ({ sid }) => ({ query: `sid=${sid}&sid=${sid}&ack=0` })],
    'two positions': ['400 REQUEST_INVALID', ({ sid }) => ({ query: `sid=${sid}&ack=0&ack=0` })],
    'no position': ['400 REQUEST_INVALID', ({ sid }) => ({ query: `sid=${sid}` })],
  };
  for (const field of ['count=0', 'count=-1', 'count=1e3', 'count=01', 'count=99999999999999999'])
    Object.assign(wrong, {
      [`a proof with ${field}`]: [
        '400 REQUEST_INVALID',
        (known: Known) => ({
          fields: {
            'postern-rejoin': rejoinFields(known, { count: 1 })['postern-rejoin']!.replace('count=1', field),
          },
        }),
      ],
    });
  for (const ack of ['', '-1', '1.5', '0x0', 'zero', '%00', '1e0', '+0', '184467440737095516160'])
    Object.assign(wrong, {
      [`the position ${JSON.stringify(ack)}`]: [
        '400 REQUEST_INVALID',
        ({ sid }: Known) => ({ query: `sid=${sid}&ack=${ack}` }),
      ],
    });
  for (const sid of [
    '',
    '..',
    '../x',
    '%2e%2e%2fx',
    'a/b',
    'a%00b',
    'a%0d%0ab',
    'é',
    'a b',
    'x'.repeat(129),
    '__proto__/',
  ])
    Object.assign(wrong, {
      [`the name ${JSON.stringify(sid.slice(0, 20))}`]: [
        sid === '..' ? '410 TUNNEL_GONE' : '400 REQUEST_INVALID',
        () => ({ query: `sid=${sid}&ack=0` }),
      ],
    });
  // Positions that can be read, but not be: the proof is right.
  for (const ack of ['1', '9007199254740991', '9007199254740992', '9007199254740993', '18446744073709551616'])
    Object.assign(wrong, {
      [`the position ${ack}, beyond what was sent`]: [
        '409 REJOIN_INVALID',
        (known: Known) => ({
          query: `sid=${known.sid}&ack=${ack}`,
          fields: rejoinFields(known, { count: 1, ack: Number(ack) }),
        }),
      ],
    });

  for (const [what, [code, differs]] of Object.entries(wrong)) {
    it(`with ${what} is refused with ${code}, and the tunnel stays as it is`, async () => {
      const cut = await openAndCut({ authenticator: tokensOf(tokens) });
      const { query = `sid=${cut.known.sid}&ack=0`, ...options } = differs(cut.known);
      const fields = rejoinFields(cut.known, { count: 1 });
      assert.equal(await codeFrom(cut.parts, `reconnect?${query}`, { fields, ...options }), code);
      assert.equal(cut.parts.relays.detachedCount, 1);
      await assertWhole(cut, 2);
      await cut.end();
    });
  }

  it('is refused in the same words for a tunnel of another user, for none, and for a wrong proof', async () => {
    const cut = await openAndCut({ authenticator: tokensOf(tokens) });
    const { parts, known } = cut;
    const none = { ...known, sid: `test.${'A'.repeat(43)}` };
    const answers = await Promise.all([
      rejoinTunnel(parts.port, known, { count: 1, token: 'bob' }),
      rejoinTunnel(parts.port, none, { count: 1 }),
      rejoinTunnel(parts.port, { ...known, secret: 'x' }, { count: 1 }),
      rejoinTunnel(parts.port, none, { count: 1, token: 'bob' }),
    ]);
    const words = answers.map((answer) => (answer instanceof Wire ? 'accepted' : answer.words));
    assert.equal(new Set(words).size, 1, words.join('\n'));
    await cut.end();
  });

  it('cannot be used again, nor an older one after a newer one', async () => {
    const cut = await openAndCut();
    const ask = async (count: number): Promise<string> => {
      const answer = await rejoinTunnel(cut.parts.port, cut.known, { count });
      if (!(answer instanceof Wire)) return answer.code;
      await answer.values('joined');
      answer.drop();
      return 'accepted';
    };
    const answers: string[] = [];
    for (const count of [3, 3, 1, 2, 4, 4, 900, 5, 899, 999_999_999_999_999, 900])
      answers.push(await ask(count));
    const [yes, no] = ['accepted', 'REJOIN_INVALID'];
    assert.deepEqual(answers, [yes, no, no, no, yes, no, yes, no, no, yes, no]);
    await cut.end();
  });

  it('is answered once when it comes twice at the same time', async () => {
    const cut = await openAndCut();
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => rejoinTunnel(cut.parts.port, cut.known, { count: 7 })),
    );
    const greeted = await Promise.all(
      answers.map(async (answer) => answer instanceof Wire && typeof (await answer.next()) === 'string'),
    );
    assert.equal(greeted.filter(Boolean).length, 1);
    await cut.parts.endedCount(20);
    const ends = cut.parts.ended.map(({ end }) => end);
    assert.equal(ends.filter((end) => end === 'RESUMED').length, 1);
    assert.equal(ends.filter((end) => end === 'REJOIN_INVALID').length, 19);
    await assertWhole(cut, 8);
    await cut.end();
  });

  it('for a tunnel of relay v4 needs the subprotocol of relay v4, and no proof', async () => {
    const { parts, target, end } = await startWithEcho({ authenticator: tokensOf(tokens) });
    const wire = await Wire.open(parts.port, `connect?host=127.0.0.1&port=${target}`, { subprotocols: [v4] });
    assert.ok(wire instanceof Wire);
    const sid = ((await wire.next()) as Buffer).subarray(6).toString();
    const path = `reconnect?sid=${sid}&ack=0`;
    const known = { sid, secret: '' };
    const fields = rejoinFields(known, { count: 1 });
    assert.equal(await codeFrom(parts, path, {}), '400 REQUEST_INVALID');
    assert.equal(await codeFrom(parts, path, { fields }), '410 TUNNEL_GONE');
    assert.equal(await codeFrom(parts, path, { subprotocols: [v4], fields }), '400 REQUEST_INVALID');
    assert.equal(await codeFrom(parts, path, { subprotocols: [v4], token: 'bob' }), '410 TUNNEL_GONE');
    assert.equal(await codeFrom(parts, path, { subprotocols: [v4], token: '' }), '401 TOKEN_INVALID');
    wire.socket.send(Buffer.from('000400000001aa', 'hex'));
    // What comes back is acknowledged; from then on a position before it cannot be.
    while (wire.bytes.at(-1) !== 0xaa) await turn();
    wire.socket.send(Buffer.from('00070000000000000001', 'hex'));
    assert.equal(
      await codeFrom(parts, `reconnect?sid=${sid}&ack=2`, { subprotocols: [v4] }),
      '409 REJOIN_INVALID',
    );
    while ((await codeFrom(parts, path, { subprotocols: [v4] })) !== '409 REJOIN_INVALID') await turn();
    const again = await Wire.open(parts.port, `reconnect?sid=${sid}&ack=1`, { subprotocols: ['ssh'] });
    assert.ok(again instanceof Wire);
    assert.equal(((await again.next()) as Buffer).toString('hex'), '00020000000000000001');
    // Once it has closed, it is over.
    again.socket.close(1000);
    await again.closed();
    await parts.endedCount(parts.ended.length);
    assert.equal(
      await codeFrom(parts, `reconnect?sid=${sid}&ack=1`, { subprotocols: [v4] }),
      '410 TUNNEL_GONE',
    );
    await end();
  });
});

describe('a request for a tunnel by the relay', () => {
  const seen: string[] = [];
  const policy: Policy = {
    decide(_principal, target) {
      seen.push(`${target.host}:${target.port}`);
      throw new TunnelError('TARGET_DENIED', 'no');
    },
  };

  const queries: Readonly<Record<string, string>> = {
    'host=box&port=22': 'box:22',
    'host=box': 'box:22',
    'instance=box&port=22': 'box:22',
    'host=BOX.Example&port=22': 'BOX.Example:22',
    'host=::1&port=22': '[::1]:22',
    'host=%5B::1%5D&port=22': '[::1]:22',
    'host=box.&port=22': '',
    'port=22': '',
    '': '',
    'host=&port=22': '',
    'host=box&port=': '',
    'host=box:22': '',
    'host=box:22&port=22': '',
    'host=%5B::1%5D:22&port=22': '',
    'host=box&port=022': '',
    'host=box&port=0': '',
    'host=box&port=65536': '',
    'host=box&port=65558': '',
    'host=box&port=-22': '',
    'host=box&port=+22': '',
    'host=box&port=22%20': '',
    'host=box&port=0x16': '',
    'host=box&port=22:22': '',
    'host=box/22&port=22': '',
    'host=a@box&port=22': '',
    'host=box%00.example&port=22': '',
    'host=box%0d%0a&port=22': '',
    'host=%20box&port=22': '',
    'host=bo+x&port=22': '',
    'host=box%2e%2e&port=22': '',
    'host=127.1&port=22': '',
    'host=0x7f.1&port=22': '',
    'host=2130706433&port=22': '',
    'host=0177.0.0.1&port=22': '',
    'host=%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1&port=22': '',
    'host=%E2%91%A0&port=22': '',
    'host=fe80::1%25eth0&port=22': '',
    'host=-oProxyCommand=x&port=22': '',
    'Host=box&port=22': '',
  };
  for (const [query, expected] of Object.entries(queries)) {
    it(`with ${JSON.stringify(query)} is ${expected ? `for ${expected}` : 'refused before a decision'}`, async () => {
      seen.length = 0;
      const parts = await startParts({ policy });
      const code = await codeFrom(parts, `connect?${query}`, {});
      if (expected === '') {
        assert.equal(code, '400 TARGET_INVALID');
        assert.deepEqual(seen, []);
      } else {
        const { host, port } = parseTarget(expected, 'required');
        assert.equal(code, '403 TARGET_DENIED');
        assert.deepEqual(seen, [`${host}:${port}`]);
      }
      await parts.close();
    });
  }

  for (const query of [
    'host=a&host=b&port=22',
    'host=a&port=22&port=23',
    'host=a&instance=b&instance=c',
    'host=a&port=22&host=a',
  ])
    it(`with ${JSON.stringify(query)} is refused: it says something twice`, async () => {
      const parts = await startParts({ policy });
      const code = await codeFrom(parts, `connect?${query}`, {});
      assert.ok(code === '400 REQUEST_INVALID' || query.startsWith('host=a&instance'), code);
      await parts.close();
    });

  for (const list of [
    '',
    ',',
    `${v1},`,
    `${v1}, ${v1}`,
    `${v1};q=1`,
    `${v1} ${v4}`,
    `"${v1}"`,
    'POSTERN.RELAY.V1',
    `${v1}\u00a0`,
    'postern.tcp.v1',
    'constructor',
    `x${v1}`,
  ])
    it(`with the subprotocols ${JSON.stringify(list)} is refused before anything is dialled`, async () => {
      const parts = await startParts({ policy });
      const fields = `${webSocketFields}Authorization: Bearer good\r\nSec-WebSocket-Protocol: ${list}\r\n`;
      const head = upgradeHead('/ssh/v4/connect?host=box&port=22', 'websocket', fields);
      assert.equal(codeOf(await exchange(parts.port, head)), 'REQUEST_INVALID');
      await parts.close();
    });

  it('whose subprotocols are separated by tabs gets the first that we speak, in its own words', async () => {
    const { parts, target, end } = await startWithEcho();
    const fields = `${webSocketFields}Authorization: Bearer good\r\nSec-WebSocket-Protocol: ${v1}\t,\t${v4}\r\n`;
    const socket = await dial(parts.port);
    socket.write(upgradeHead(`/ssh/v4/connect?host=127.0.0.1&port=${target}`, 'websocket', fields));
    assert.match(await readHead(socket), /Sec-WebSocket-Protocol: postern\.relay\.v1\r\n/i);
    if (socket.readableLength === 0) await once(socket, 'readable');
    assert.match((socket.read() as Buffer).toString('latin1'), /opened sid=/);
    socket.destroy();
    await end();
  });
});

describe('a tunnel whose connection is lost', () => {
  it('is ended when the rules do not allow it any more, and its client is told so', async () => {
    let isAllowed = true;
    const policy: Policy = {
      decide(_principal, target) {
        if (!isAllowed) throw new TunnelError('TARGET_DENIED', 'not any more');
        return { target, address: target, rule: 'rule 1' };
      },
    };
    const { parts, known, end } = await openAndCut({ policy });
    isAllowed = false;
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.ok(!(answer instanceof Wire));
    assert.equal(`${answer.status} ${answer.code}`, '403 TARGET_DENIED');
    await parts.endedCount(2);
    const [tunnel, request] = ['REVOKED', 'TARGET_DENIED'].map((how) =>
      parts.ended.find(({ end }) => end === how),
    );
    assert.match(tunnel!.reason!, /rules/);
    assert.equal(request!.principal!.subject, 'alice');
    assert.equal(parts.relays.detachedCount, 0);
    isAllowed = true;
    const late = await rejoinTunnel(parts.port, known, { count: 2 });
    assert.equal(late instanceof Wire ? '' : late.code, 'TUNNEL_REVOKED');
    await end();
  });

  it('is ended when the network policy does not allow its address any more', async () => {
    let isAllowed = true;
    const asked: string[] = [];
    const { parts, known, end } = await openAndCut({
      evaluateAddress(address, port) {
        asked.push(`${address} ${port}`);
        return { allowed: isAllowed, why: 'not any more' };
      },
    });
    isAllowed = false;
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? '' : `${answer.status} ${answer.code}`, '403 ADDRESS_DENIED');
    await parts.endedCount(2);
    const { dialled } = parts.ended.find(({ end: how }) => how === 'REVOKED')!;
    assert.deepEqual(asked, [`${dialled!.host} ${dialled!.port}`]);
    await end();
  });

  for (const [reason, code] of [
    ['KILLED', 'TUNNEL_KILLED'],
    ['SESSION_EXPIRED', 'TUNNEL_EXPIRED'],
    ['REVOKED', 'TUNNEL_REVOKED'],
  ] as const)
    it(`and that is ended for ${reason} meanwhile says so to its owner, and to no other client`, async () => {
      const { parts, known, end } = await openAndCut({
        authenticator: tokensOf({ good: {}, bob: { subject: 'bob' } }),
      });
      parts.sessions.endWhere(() => true, reason, 'as the test says');
      await parts.endedCount(1);
      const codes = [];
      for (const token of ['good', 'bob', 'none']) {
        const answer = await rejoinTunnel(parts.port, known, { count: 1, token });
        codes.push(answer instanceof Wire ? 'accepted' : answer.code);
      }
      assert.deepEqual(codes, [code, 'TUNNEL_GONE', 'TOKEN_INVALID']);
      await end();
    });

  it('is not given back to a token that has expired meanwhile, and to a new one it is', async () => {
    const tokens: Tokens = { good: {} };
    const { parts, known, end } = await openAndCut({ authenticator: tokensOf(tokens) });
    tokens.good = 'expired';
    tokens.fresh = {};
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TOKEN_INVALID');
    assert.ok((await rejoinTunnel(parts.port, known, { count: 1, token: 'fresh' })) instanceof Wire);
    await end();
  });

  it('is not given back to a sign-in that was revoked', async () => {
    let isRevoked = false;
    const { parts, known, end } = await openAndCut({ revocations: { isRevoked: () => isRevoked } });
    isRevoked = true;
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TOKEN_INVALID');
    await end();
  });

  it('is ended when its client does not come back in time', async () => {
    const { parts, known, end } = await openAndCut({ relays: { keepMs: 20 } });
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'CLIENT_LOST');
    assert.match(parts.ended[0]!.reason ?? '', /did not resume it/);
    assert.equal(parts.relays.detachedCount, 0);
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TUNNEL_GONE');
    await end();
  });

  it('goes when all together keep too much, the one that has waited longest first, and its client learns why', async () => {
    const source = await startTarget((socket) => {
      socket.resume();
      socket.write(Buffer.alloc(300 * 1024));
    });
    const parts = await startParts({ relays: { windowBytes: 256 * 1024, totalBytes: 640 * 1024 } });
    const opened: Known[] = [];
    for (let count = 0; count < 3; count++) {
      const { wire, known } = await openTunnel(parts.port, source.port);
      opened.push(known);
      wire.drop();
      if (count < 2)
        while (parts.relays.detachedCount <= count || parts.relays.unackedBytes < 256 * 1024 * (count + 1))
          await turn();
    }
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'SHED');
    assert.ok(parts.relays.unackedBytes <= 640 * 1024);
    const codes = [];
    for (const known of opened) {
      const answer = await rejoinTunnel(parts.port, known, { count: 1 });
      codes.push(answer instanceof Wire ? 'accepted' : answer.code);
    }
    assert.deepEqual(codes, ['TUNNEL_SHED', 'accepted', 'accepted']);
    await parts.close();
    source.close();
    assert.equal(parts.relays.unackedBytes, 0);
  });

  it('can be resumed by a user who has all the tunnels that are allowed', async () => {
    const limits = { ...generousLimits, tunnels: 2, perAddress: 2, perSubject: 2 };
    const { parts, target, end } = await startWithEcho({ limits });
    const opened = [await openTunnel(parts.port, target), await openTunnel(parts.port, target)];
    const third = await codeFrom(parts, `connect?host=127.0.0.1&port=${target}`, {});
    assert.match(third, /LIMIT_/);
    for (const { wire } of opened) wire.drop();
    while (parts.relays.detachedCount < 2) await turn();
    for (const { known } of opened) {
      const wire = await rejoinTunnel(parts.port, known, { count: 1 });
      assert.ok(wire instanceof Wire, JSON.stringify(wire));
    }
    assert.match(await codeFrom(parts, `connect?host=127.0.0.1&port=${target}`, {}), /LIMIT_/);
    await end();
  });

  it('is ended at once, without waiting for its client, when its target is lost', async () => {
    const sockets: { resetAndDestroy(): void }[] = [];
    const target = await startTarget((socket) => void sockets.push(socket.resume()));
    const parts = await startParts();
    const { wire, known } = await openTunnel(parts.port, target.port);
    wire.drop();
    while (parts.relays.detachedCount === 0) await turn();
    sockets[0]!.resetAndDestroy();
    await parts.endedCount(1);
    assert.equal(parts.ended[0]!.end, 'TARGET_LOST');
    const answer = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TUNNEL_GONE');
    await parts.close();
    target.close();
  });
});

describe('two clients with the same tunnel', () => {
  it('are not mixed: the newest goes on, the other is cut off, whatever it still says', async () => {
    const heard: Buffer[] = [];
    const target = await startTarget((socket) =>
      socket.on('data', (chunk: Buffer) => void heard.push(chunk)),
    );
    const parts = await startParts();
    const { wire: first, known } = await openTunnel(parts.port, target.port);
    first.socket.send(Buffer.from('first.'));
    while (heard.length === 0) await turn();
    const second = await rejoinTunnel(parts.port, known, { count: 1 });
    assert.ok(second instanceof Wire);
    // Both at once, from here on.
    for (let round = 0; round < 50; round++) {
      first.socket.send(Buffer.from('WRONG'), () => {});
      second.socket.send(Buffer.from('right'));
    }
    const { received } = await second.values('joined');
    assert.equal(received, '6');
    await first.closed();
    const right = 'right'.repeat(50);
    while (Buffer.concat(heard).length < 6 + right.length) await turn();
    const all = Buffer.concat(heard).toString();
    // What the first one said before the second had come is its own; nothing comes between the words of the second.
    assert.ok(all.endsWith(right) && !all.slice(0, -right.length).includes('right'), all.slice(0, 60));
    const third = await rejoinTunnel(parts.port, known, { count: 2 });
    assert.ok(third instanceof Wire);
    assert.equal(await second.closed(), 1006);
    await parts.close();
    target.close();
  });
});

describe('a carrier that breaks the rules', () => {
  const messages: Readonly<Record<string, readonly [message: string | Buffer, closeCode: number]>> = {
    'an acknowledgement beyond what was sent': ['ack at=1', 4005],
    'an acknowledgement at 2^53 - 1': ['ack at=9007199254740991', 4005],
    'an acknowledgement at 2^53': ['ack at=9007199254740992', 4008],
    'an acknowledgement at 2^64': ['ack at=18446744073709551616', 4008],
    'a negative acknowledgement': ['ack at=-1', 4008],
    'an acknowledgement in words': ['ack at=one', 4008],
    'an end elsewhere': ['end at=1', 4013],
    'an empty message': [Buffer.alloc(0), 4013],
    'a greeting': ['joined received=0 from=0', 4008],
    'another greeting': ['opened sid=a secret=b window=1 keep=1', 4008],
    'text with a NUL': ['ack at=0\0', 4008],
    'text beyond ASCII': ['ack at=0é', 4008],
    'a long text': [`nothing a=${'x'.repeat(2000)}`, 4008],
    'one byte more than a message may hold': [Buffer.alloc(64 * 1024 + 1), 4013],
  };
  for (const [what, [message, closeCode]] of Object.entries(messages))
    it(`by ${what} is closed with ${closeCode}, and its tunnel is over`, async () => {
      const { parts, target, end } = await startWithEcho();
      const { wire, known } = await openTunnel(parts.port, target);
      wire.socket.send(message);
      assert.equal(await wire.closed(), closeCode);
      await parts.endedCount(1);
      assert.equal(parts.ended[0]!.end, 'CLIENT_LOST');
      assert.ok(parts.ended[0]!.reason, 'the audit knows why');
      const answer = await rejoinTunnel(parts.port, known, { count: 1 });
      assert.equal(answer instanceof Wire ? 'accepted' : answer.code, 'TUNNEL_GONE');
      await end();
    });

  it('by more than the window holds is closed with 4013', async () => {
    const deaf = await startTarget((socket) => void socket.pause());
    const parts = await startParts({ relays: { windowBytes: 64 * 1024 } });
    const { wire } = await openTunnel(parts.port, deaf.port);
    const bytes = Buffer.alloc(64 * 1024);
    // The kernel takes some megabytes in place of the target.
    for (let sent = 0; sent < 1000 && wire.closeCode === undefined; sent++) {
      wire.socket.send(bytes, () => {});
      await turn();
    }
    assert.equal(await wire.closed(), 4013);
    await parts.close();
    deaf.close();
  });
});

describe('a peer with all the time in the world', () => {
  it('gets no answer that it does not read, and no memory, for floods of words', async () => {
    const { parts, target, end } = await startWithEcho();
    const { wire } = await openTunnel(parts.port, target);
    const before = memory();
    wire.socket.pause();
    for (let round = 0; round < 100; round++) {
      for (let count = 0; count < 500; count++)
        for (const text of ['ping id=1', 'pong id=1', 'ack at=0', 'hello', 'move']) wire.socket.send(text);
      while (wire.socket.bufferedAmount > 0) await turn();
    }
    assert.ok(memory() - before < 64 * 1024 * 1024);
    wire.socket.resume();
    wire.socket.send(Buffer.from('alive'));
    await wire.until('alive');
    await end();
  });

  it('costs its window and no more when it never acknowledges, 200 times', async () => {
    const source = await startTarget((socket) => {
      const chunk = Buffer.alloc(64 * 1024);
      const more = (): void => {
        while (socket.write(chunk));
      };
      socket.on('drain', more);
      socket.resume();
      more();
    });
    const windowBytes = 128 * 1024;
    const parts = await startParts({ relays: { windowBytes, totalBytes: 200 * windowBytes } });
    const wires: Wire[] = [];
    for (let count = 0; count < 200; count++) wires.push((await openTunnel(parts.port, source.port)).wire);
    // The last message of a window does not always fit into it.
    const isFull = ({ bytes }: Wire, windows: number): boolean =>
      bytes.length > windows * windowBytes - 64 * 1024;
    while (!wires.every((wire) => isFull(wire, 1))) await turn();
    for (const { bytes } of wires) assert.ok(bytes.length <= windowBytes, `${bytes.length}`);
    // One read of the target can exceed the window.
    assert.ok(parts.relays.unackedBytes <= 200 * (windowBytes + 64 * 1024), `${parts.relays.unackedBytes}`);
    // One that acknowledges what it has not read gets as much again, and no more.
    const one = wires[0]!;
    const acknowledged = one.bytes.length;
    one.socket.send(`ack at=${acknowledged}`);
    while (one.bytes.length <= acknowledged + windowBytes - 64 * 1024) await turn();
    assert.ok(one.bytes.length <= acknowledged + windowBytes);
    await parts.close();
    source.close();
    assert.equal(parts.relays.unackedBytes, 0);
  });

  it('of relay v4, and talks and listens at once, is not stuck at a target that answers all it gets', async () => {
    const { parts, target, end } = await startWithEcho();
    const wire = await Wire.open(parts.port, `connect?host=127.0.0.1&port=${target}`, { subprotocols: [v4] });
    assert.ok(wire instanceof Wire);
    const { socket } = wire;
    const counts = { received: 0, acknowledged: 0 };
    socket.on('message', (message: Buffer) => {
      if (message.readUInt16BE(0) !== 4) return;
      counts.received += message.length - 6;
      if (counts.received - counts.acknowledged <= 32 * 1024) return;
      counts.acknowledged = counts.received;
      const ack = Buffer.from('00070000000000000000', 'hex');
      ack.writeBigUInt64BE(BigInt(counts.received), 2);
      socket.send(ack);
    });
    // Its acknowledgements lie behind its data, as in the client of Google.
    const data = Buffer.concat([Buffer.from('000400004000', 'hex'), Buffer.alloc(16_384)]);
    const total = 48 * 1024 * 1024;
    for (let sent = 0; sent < total; sent += 16_384) {
      socket.send(data);
      while (socket.bufferedAmount > 80_000) await turn();
    }
    while (counts.received < total) await turn();
    assert.equal(counts.received, total);
    wire.drop();
    await end();
  });

  it('can come back a thousand times in a row and leaves nothing behind', async () => {
    const warnings: Error[] = [];
    const warn = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warn);
    const resumes: Resume[] = [];
    const observer = {
      ended(_record: SessionRecord): void {},
      resumed: (_record: SessionRecord, resume: Resume): void => void resumes.push(resume),
    };
    const { parts, target, end } = await startWithEcho({ observers: [observer] });
    const { wire: first, known } = await openTunnel(parts.port, target);
    let last = first;
    let early = 0;
    for (let count = 1; count <= 1000; count++) {
      const received = last.bytes.length;
      const wire = await rejoinTunnel(parts.port, known, { count, ack: 0 });
      assert.ok(wire instanceof Wire, JSON.stringify(wire));
      await wire.values('joined');
      assert.ok(received >= 0);
      last = wire;
      if (count === 100) early = resources();
    }
    last.socket.send(Buffer.from('the last'));
    await last.until('the last');
    assert.equal(resumes.length, 1000);
    assert.ok(resources() < early + 20, `${early} resources, then ${resources()}`);
    assert.equal(parts.sessions.count, 1);
    assert.deepEqual(warnings, []);
    process.off('warning', warn);
    await end();
  });
});

describe('a connection that breaks while its client comes back', () => {
  const rounds = process.env.POSTERN_LONG ? 1000 : 10;
  /** How far the request gets before the reset. */
  const stages = [
    'in the head',
    'after the head',
    'while the token is checked',
    'with the 101',
    'after the greeting',
  ];
  for (const stage of stages)
    for (const how of ['reset', 'end'] as const)
      it(`${stage}, by ${how}: the tunnel waits on, and goes on (${rounds} times)`, async () => {
        const checking = { isSlow: false, started: Promise.withResolvers<void>() };
        const authenticator = tokensOf({ good: {} });
        const cut = await openAndCut({
          authenticator: tokenAuthenticator(async (credentials, context) => {
            if (checking.isSlow) {
              checking.started.resolve();
              await new Promise((resolve) => setTimeout(resolve, 5));
            }
            return authenticator.authenticate(credentials, context);
          }),
        });
        const { parts, known } = cut;
        for (let round = 1; round <= rounds; round++) {
          checking.isSlow = stage === 'while the token is checked';
          checking.started = Promise.withResolvers<void>();
          const proof = rejoinFields(known, { count: round })['postern-rejoin'];
          const head = upgradeHead(
            `/ssh/v4/reconnect?sid=${known.sid}&ack=0`,
            'websocket',
            `${webSocketFields}Authorization: Bearer good\r\nSec-WebSocket-Protocol: ${v1}\r\nPostern-Rejoin: ${proof}\r\n`,
          );
          const socket = await dial(parts.port);
          socket.on('error', () => {});
          socket.write(stage === 'in the head' ? head.slice(0, 60) : head);
          if (stage === 'while the token is checked') await checking.started.promise;
          if (stage === 'with the 101') await once(socket, 'readable');
          if (stage === 'after the greeting') {
            await readHead(socket);
            while (!/joined/.test((socket.read() as Buffer | null)?.toString('latin1') ?? ''))
              await once(socket, 'readable');
          }
          if (how === 'reset') socket.resetAndDestroy();
          else socket.destroy();
        }
        checking.isSlow = false;
        while (parts.sessions.count > 1 || parts.relays.detachedCount === 0) await turn();
        await assertWhole(cut, rounds + 1);
        await cut.end();
      });
});

function resources(): number {
  return process.getActiveResourcesInfo().length;
}

function memory(): number {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
