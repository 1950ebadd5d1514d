// What docs/entry/relay.md answers to those who write a client from it alone; each of its sentences here is one on the page.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { tunnelErrors } from '../../../protocol/errors.ts';
import { relayHead } from '../../server/support/peers.ts';
import { openAndCut, startWithEcho } from '../support/lost-tunnel.ts';
import { openTunnel, rejoinTunnel, Wire } from '../support/relay-wire.ts';

async function assertClosed(sent: readonly string[], expected: number): Promise<void> {
  const { parts, target, end } = await startWithEcho();
  const { wire } = await openTunnel(parts.port, target);
  for (const message of sent) wire.socket.send(message);
  assert.equal(await wire.closed(), expected);
  await end();
}

describe('a relay client that was written from the page', () => {
  it('finds the position of an end in `ack`, `received` and `from` alike', async () => {
    const { parts, target, end } = await startWithEcho();
    const { wire, known } = await openTunnel(parts.port, target);
    wire.socket.send(Buffer.from('hello'));
    await wire.until('hello');
    wire.socket.send('end at=5');
    let at = '0';
    while (at !== '6') at = (await wire.values('ack'))['at']!;
    // The echo has ended too: its end stands behind its five bytes.
    while (!wire.heard.includes('end at=5')) await once(wire.socket, 'heard');
    wire.drop();
    while (parts.relays.detachedCount === 0) await new Promise((resolve) => setImmediate(resolve));
    const next = await rejoinTunnel(parts.port, known, { count: 1, ack: 6 });
    assert.ok(next instanceof Wire);
    assert.deepEqual(await next.values('joined'), { received: '6', from: '6' });
    await end();
  });

  it('can send data with its request, before `opened`', async () => {
    const { parts, target, end } = await startWithEcho();
    const socket = connect({ port: parts.port, host: '127.0.0.1' });
    const frame = Buffer.from([0x82, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
    socket.write(
      Buffer.concat([Buffer.from(relayHead(`127.0.0.1:${target}`, 'Authorization: Bearer good\r\n')), frame]),
    );
    let answer = '';
    while (!answer.includes('\x82\x02hi')) {
      const [chunk] = (await once(socket, 'data')) as [Buffer];
      answer += chunk.toString('latin1');
    }
    socket.destroy();
    await end();
  });

  it('can send the same ack twice', async () => {
    const { parts, target, end } = await startWithEcho();
    const { wire } = await openTunnel(parts.port, target);
    wire.socket.send(Buffer.from('one'));
    await wire.until('one');
    for (let round = 0; round < 3; round++) wire.socket.send('ack at=3');
    wire.socket.send(Buffer.from('two'));
    await wire.until('two');
    wire.drop();
    await end();
  });

  it('must not send the same end twice on one carrier', () => assertClosed(['end at=0', 'end at=0'], 4013));

  for (const message of [
    'ack at=0 at=0',
    'ack at=0 at=1',
    'ping id=1 id=2',
    'hello how=you how=me',
    'ping id=a',
    'ping id=01',
    'ping id=9007199254740992',
    'ping',
    'ack',
  ])
    it(`must not send ${JSON.stringify(message)}`, () => assertClosed([message], 4008));

  it('can send unknown words and keys', async () => {
    const { parts, target, end } = await startWithEcho();
    const { wire } = await openTunnel(parts.port, target);
    wire.socket.send('hello how=you');
    wire.socket.send('ping id=7 why=none');
    assert.deepEqual(await wire.values('pong'), { id: '7' });
    wire.drop();
    await end();
  });

  for (const subprotocols of [[], ['postern.relay.v2'], ['unknown', 'postern.tcp.v1']])
    it(`is refused with the subprotocols ${JSON.stringify(subprotocols)}`, async () => {
      const { parts, target, end } = await startWithEcho();
      const answer = await Wire.open(parts.port, `connect?host=127.0.0.1&port=${target}`, { subprotocols });
      assert.ok(!(answer instanceof Wire));
      assert.deepEqual([answer.status, answer.code], [400, 'REQUEST_INVALID']);
      await end();
    });

  it('learns the status of each refusal of a resume request', async () => {
    const cut = await openAndCut();
    const { parts, known, end } = cut;
    const answers = [
      await rejoinTunnel(parts.port, { ...known, secret: 'x'.repeat(43) }, { count: 1 }),
      await rejoinTunnel(parts.port, known, { count: 1, ack: 1_000_000 }),
      await rejoinTunnel(parts.port, known, { count: 1, token: 'none' }),
      await Wire.open(parts.port, `reconnect?sid=${known.sid}&ack=0`),
    ].map((answer) => (answer instanceof Wire ? 'accepted' : `${answer.status} ${answer.code}`));
    assert.deepEqual(answers, [
      '410 TUNNEL_GONE',
      '409 REJOIN_INVALID',
      '401 TOKEN_INVALID',
      '400 REQUEST_INVALID',
    ]);
    await end();
  });

  it('finds the same statuses on the page as in the table of errors', () => {
    const page = readFileSync(new URL('../../../docs/entry/relay.md', import.meta.url), 'utf8');
    const rows = [...page.matchAll(/(\d{3}) `([A-Z_]+)`/g)].map(([, status, code]) => [code, Number(status)]);
    assert.ok(rows.length >= 9, String(rows));
    for (const [code, status] of rows)
      assert.equal(tunnelErrors[code as keyof typeof tunnelErrors].status, status, String(code));
  });
});
