import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { codeOf, exchange, startParts } from '../support/gateway-parts.ts';
import { upgradeHead } from '../support/peers.ts';

describe('the origin of a request', () => {
  // Behind this check the request is refused for its missing token.
  for (const [origin, code] of [
    ['https://listed.example', 'TOKEN_INVALID'],
    ['bot:iap-tunneler', 'TOKEN_INVALID'],
    ['bot:iap-tunneler2', 'ORIGIN_DENIED'],
    ['bot:', 'ORIGIN_DENIED'],
    ['bot://iap-tunneler', 'ORIGIN_DENIED'],
    ['BOT:IAP-TUNNELER', 'ORIGIN_DENIED'],
    ['null', 'ORIGIN_DENIED'],
    ['', 'ORIGIN_DENIED'],
    ['https://evil.example', 'ORIGIN_DENIED'],
    ['https://listed.example.evil.example', 'ORIGIN_DENIED'],
    ['chrome-extension://abcdefgh', 'ORIGIN_DENIED'],
  ] as const)
    it(`${JSON.stringify(origin)}: ${code}`, async () => {
      const parts = await startParts();
      const head = upgradeHead('/ssh/tcp/box/22/', 'connect-tcp', `Origin: ${origin}\r\n`);
      assert.equal(codeOf(await exchange(parts.port, head)), code);
      await parts.close();
    });
});
