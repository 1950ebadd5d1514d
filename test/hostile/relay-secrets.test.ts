// SECURITY rule 16: the secret that resumes a tunnel is sent to its client, once, and to no other party.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { before, describe, it } from 'node:test';
import { inspect } from 'node:util';
import { startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { listen } from '../e2e/support/world.ts';
import { carriedIn, data, HttpWire, record, signed } from './support/http-wire.ts';
import type { Answered } from './support/http-wire.ts';
import { rejoinFields, rejoinTunnel, v4, Wire } from './support/relay-wire.ts';
import type { Known, Refused } from './support/relay-wire.ts';

const scratch = openScratch();

const answers: string[] = [];

function note(answer: Wire | Refused): void {
  if (!(answer instanceof Wire)) answers.push(answer.words);
}

function noteAnswer({ headers, body }: Answered): void {
  answers.push(JSON.stringify(headers), body.toString('latin1'));
}

describe('what opens a tunnel again', () => {
  let gateway: Gateway;
  const tunnels: Known[] = [];
  const macs: string[] = [];

  before(async () => {
    const echo = await listen(scratch, (socket) => void socket.pipe(socket));
    gateway = await startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo}` },
      settings: { log: { level: 'trace' } },
    });
    const token = readFileSync(gateway.tokenFile, 'utf8').trim();
    const open = async (): Promise<{ readonly wire: Wire; readonly known: Known }> => {
      const wire = await Wire.open(gateway.port, 'connect?host=echo&port=22', { token });
      assert.ok(wire instanceof Wire, inspect(wire));
      const { sid, secret } = await wire.values('opened');
      tunnels.push({ sid: sid!, secret: secret! });
      return { wire, known: { sid: sid!, secret: secret! } };
    };
    const { wire, known } = await open();
    wire.drop();
    for (const count of [1, 2, 2, 1]) {
      macs.push(/mac=([\w-]+)/.exec(rejoinFields(known, { count })['postern-rejoin']!)![1]!);
      note(await rejoinTunnel(gateway.port, known, { count, token }));
    }
    note(await rejoinTunnel(gateway.port, known, { count: 3, token: 'nobody' }));
    note(await rejoinTunnel(gateway.port, known, { count: 3, ack: 77, token }));
    note(await rejoinTunnel(gateway.port, { ...known, secret: 'other' }, { count: 3, token }));
    note(await Wire.open(gateway.port, `reconnect?sid=${known.sid}&sid=${known.sid}&ack=0`, { token }));
    note(await Wire.open(gateway.port, `reconnect?sid=${known.sid}&ack=${known.secret}`, { token }));
    // One that ends by a violation, and one of relay v4.
    const broken = await open();
    broken.wire.socket.send(`opened sid=${known.sid} secret=${known.secret} window=1 keep=1`);
    await broken.wire.closed();
    note(await rejoinTunnel(gateway.port, broken.known, { count: 1, token }));
    const plain = await Wire.open(gateway.port, 'connect?host=echo&port=22', { token, subprotocols: [v4] });
    assert.ok(plain instanceof Wire);
    tunnels.push({ sid: ((await plain.next()) as Buffer).subarray(6).toString(), secret: 'none of that' });
    plain.drop();
    // One by plain requests, which are refused, repeated, and forged.
    const http = new HttpWire(gateway.port);
    const opening = { authorization: `Bearer ${token}`, 'content-length': '0' };
    const carried = carriedIn(await http.ask('POST', 'connect?host=echo&port=22', opening));
    const greeting = /sid=(\S+) secret=(\S+)/.exec(carried.greeting)!;
    tunnels.push({ sid: greeting[1]!, secret: greeting[2]! }, { sid: carried.id, secret: carried.secret });
    for (const number of [0, 0, 7]) noteAnswer(await http.up(carried, number, record(data, 'x')));
    noteAnswer(await http.down({ ...carried, secret: 'other' }, 1));
    noteAnswer(await http.ask('GET', `down?${carried.secret}`, { 'postern-carrier': `id=${carried.id}` }));
    noteAnswer(await http.up(carried, 1, Buffer.from(carried.secret)));
    macs.push(/mac=([\w-]+)/.exec(signed(carried, 'up', 0)['postern-carrier'])![1]!);
    http.close();
  });

  function metrics(): Promise<string> {
    return new Promise<IncomingMessage>((resolve, reject) =>
      get({ port: gateway.adminPort, host: '127.0.0.1', path: '/metrics' }, resolve).once('error', reject),
    ).then(text);
  }

  const places: Readonly<Record<string, () => Promise<string> | string>> = {
    "the gateway's log": () => gateway.running.log(),
    'the audit': () => readFileSync(gateway.auditFile, 'utf8'),
    metrics,
    'a refusal': () => answers.join('\n'),
  };
  for (const [place, read] of Object.entries(places))
    it(`is not in ${place}`, async () => {
      const said = await read();
      assert.ok(said.length > 0);
      for (const { sid, secret } of tunnels)
        for (const part of [secret, sid.split('.').at(-1)!]) assert.ok(!said.includes(part), part);
      for (const mac of macs) assert.ok(!said.includes(mac), mac);
    });

  it('is not guessed: as long as a key, and another each time', () => {
    const parts = tunnels.slice(0, 2).flatMap(({ sid, secret }) => [sid.split('.').at(-1)!, secret]);
    for (const part of parts) assert.equal(Buffer.from(part, 'base64url').length, 32);
    assert.equal(new Set(parts).size, parts.length);
  });

  it('still opens it', async () => {
    const token = readFileSync(gateway.tokenFile, 'utf8').trim();
    const again = await rejoinTunnel(gateway.port, tunnels[0]!, { count: 9, token });
    assert.ok(again instanceof Wire, inspect(again));
    again.socket.send(Buffer.from('here'));
    await again.until('here');
    again.drop();
  });
});
