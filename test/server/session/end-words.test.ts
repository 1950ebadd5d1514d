// What a client is told about the end of its session: whose doing it was, and the reason that the operator gave.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { describe, it } from 'node:test';
import { endForClient, operatorKillReason, ownerKillReason } from '../../../server/session/end-words.ts';
import { startEcho, startParts } from '../support/gateway-parts.ts';
import { peers } from '../support/peers.ts';

const page = new URL('https://gw.example/ssh/access');

const table: readonly (readonly [why: string | undefined, words: string])[] = [
  [undefined, 'an operator ended this session'],
  ['', 'an operator ended this session'],
  ['ended by the operator', 'an operator ended this session'],
  ['maintenance', 'an operator ended this session: maintenance'],
  ['  two\nlines\r\n', 'an operator ended this session: two lines'],
  ['\u001b[31mred\u0007\u202e\u0085', 'an operator ended this session: [31mred'],
  ['\u001b\u200b', 'an operator ended this session'],
  ['Wartung für alle', 'an operator ended this session: Wartung für alle'],
  ['x'.repeat(300), `an operator ended this session: ${'x'.repeat(79)}…`],
  [ownerKillReason(page), 'you ended this session on https://gw.example/ssh/access'],
  [operatorKillReason(ownerKillReason(page)), 'an operator ended this session'],
  [operatorKillReason('maintenance'), 'an operator ended this session: maintenance'],
];

describe('the words for a session that was killed', () => {
  for (const [why, words] of table) {
    it(`are ${JSON.stringify(words.slice(0, 70))} for ${JSON.stringify(why?.slice(0, 40))}`, () => {
      assert.deepEqual(
        [endForClient('KILLED', why).message, endForClient('KILLED', why).code],
        [words, 'TUNNEL_KILLED'],
      );
    });
  }

  it('are for kills only', () => {
    assert.equal(endForClient('REVOKED', 'maintenance').message, 'the sign-in was revoked');
  });
});

/** What the client of a tunnel hears when the session is killed with this reason. */
async function killedWith(peer: (typeof peers)[number], why: string): Promise<string> {
  const echo = await startEcho();
  const gateway = await startParts();
  try {
    const tunnel = await peer.open(gateway.port, `127.0.0.1:${echo.port}`);
    tunnel.write('here?');
    await once(tunnel, 'data');
    const failed = failure(tunnel);
    gateway.sessions.endWhere(() => true, 'KILLED', why);
    return (await failed).message;
  } finally {
    await gateway.close();
    echo.close();
  }
}

function failure(tunnel: Duplex): Promise<Error> {
  tunnel.resume();
  return new Promise((resolve) => tunnel.once('error', resolve));
}

for (const peer of peers.filter(({ name }) => name !== 'connect')) {
  describe(`a tunnel by ${peer.name} that is killed`, () => {
    for (const [why, words] of [
      ['maintenance', 'an operator ended this session: maintenance'],
      [ownerKillReason(page), 'you ended this session on https://gw.example/ssh/access'],
      ['ende\u001b[2J\u009b', 'an operator ended this session: ende[2J'],
      ['ended by the operator', 'an operator ended this session'],
    ] as const) {
      it(`brings its client ${JSON.stringify(words)}`, async () =>
        assert.equal(await killedWith(peer, why), words));
    }

    it('brings no more than fits, whatever the letters', async () =>
      assert.match(
        await killedWith(peer, '\u{1f525}'.repeat(100)),
        /^an operator ended this session: \u{1f525}{10,80}…$/u,
      ));
  });
}
