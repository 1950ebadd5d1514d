import assert from 'node:assert/strict';
import { it } from 'node:test';
import { testPath } from '../support/battery.ts';
import { box } from '../support/ssh.ts';

testPath('squid', ['relay', 'websocket', 'connect-tcp'], (world) => {
  it('every tunnel went through squid, by CONNECT to the one port it allows', () => {
    const lines = world().corporateProxy!.accessLog().trim().split('\n');
    const tunnels = lines.filter((line) => line.includes(' TCP_TUNNEL/200 '));
    const port = new URL(world().url).port;
    assert.ok(tunnels.length > 40, `${tunnels.length} tunnels`);
    assert.ok(tunnels.every((line) => line.includes(` CONNECT gw.example:${port} alice `)));
  });

  for (const [what, code, proxy] of [
    ['asks for a password', 'PROXY_SIGN_IN', (url: string) => url.replace(/\/\/.*@/, '//')],
    ['does not know the password', 'PROXY_SIGN_IN', (url: string) => url.replace(/:[^:]*@/, ':wrong@')],
  ] as const) {
    it(`a proxy that ${what} is named as the layer that failed`, async () => {
      const env = { HTTPS_PROXY: proxy(world().corporateProxy!.url) };
      const { code: exit, stderr } = await world().ssh('websocket').run([box, 'true'], { env });
      assert.equal(exit, 255);
      assert.match(stderr.toString(), new RegExp(`^postern: .*\\(${code}\\)`, 'm'));
    });
  }

  it('a port that the proxy forbids is named as the layer that failed', async () => {
    const env = { POSTERN_GATEWAY: 'https://gw.example:1/ssh/' };
    const { stderr } = await world().ssh('websocket').run([box, 'true'], { env });
    assert.match(stderr.toString(), /^postern: .*\(PROXY_REFUSED\)/m);
  });
});
