// SECURITY R17, A6, rule 3: a client that resumes a tunnel must be the one that opened it, with the tunnel's secret, in a
// request of its own, and still allowed.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { rejoinFields, rejoinTunnel, v4, Wire } from '../support/relay-wire.ts';
import type { Known, WireOptions } from '../support/relay-wire.ts';
import { tokensOf, startWithEcho, openAndCut, turn, codeFrom, assertWhole } from '../support/lost-tunnel.ts';
import type { Tokens } from '../support/lost-tunnel.ts';

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
