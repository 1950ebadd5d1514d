// SECURITY rule 3: a request for a tunnel by the relay is refused for what is wrong with it, before anything is dialled.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import { parseTarget } from '../../../protocol/target.ts';
import type { Policy } from '../../../server/policy/policy.ts';
import { codeOf, dial, exchange, readHead, startParts } from '../../server/support/gateway-parts.ts';
import { upgradeHead, webSocketFields } from '../../server/support/peers.ts';
import { v1, v4 } from '../support/relay-wire.ts';
import { startWithEcho, codeFrom } from '../support/lost-tunnel.ts';

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
    'host=a&instance=b',
    'host=a&instance=a',
    'instance=a&host=b',
    'instance=a&instance=b',
    'host=a&HOST=b',
    'host=a&Instance=b',
    'host=a&%68ost=b',
    'host=a&inst%61nce=b&port=22',
    'host=a&port=22&PORT=23',
    'host=a&port=22&port=22',
    'host=a&host=',
    'host=&instance=a',
    'host&host=a',
    'host=a&port=22&host=a',
  ])
    it(`with ${JSON.stringify(query)} is refused: it says something twice`, async () => {
      const parts = await startParts({ policy });
      const code = await codeFrom(parts, `connect?${query}`, {});
      assert.equal(code, '400 REQUEST_INVALID');
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
