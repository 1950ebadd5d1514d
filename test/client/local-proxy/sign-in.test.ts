import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startGatewayProcess } from '../login/gateway.ts';
import { Home } from '../login/home.ts';
import { readAll } from '../support.ts';

/** Starts `postern listen` in this home; resolves to its port. */
async function listenIn(home: Home): Promise<number> {
  const { child } = home.start(['listen', '--json', '--listen', '0']);
  const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
  const { doors } = JSON.parse(line) as { doors: readonly { address: string }[] };
  return Number(doors[0]!.address.split(':')[1]);
}

/** What a CONNECT to `box` gives, to its end. */
async function throughTunnel(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.write('CONNECT box:22 HTTP/1.1\r\nHost: box:22\r\n\r\n');
  return (await readAll(socket)).toString();
}

const hello = /^HTTP\/1\.1 200 .*\r\n\r\nhello alice\n$/;

describe('the sign-in of postern listen', () => {
  it('is renewed once for all tunnels that are opened at once', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    assert.equal((await home.run('login')).status, 0);
    const port = await listenIn(home);
    assert.match(await throughTunnel(port), hello);
    const path = join(home.directory(gateway.url), 'sign-in.json');
    const kept = JSON.parse(readFileSync(path, 'utf8')) as object;
    writeFileSync(path, JSON.stringify({ ...kept, renewAt: 0 }));
    const answers = await Promise.all(Array.from({ length: 50 }, () => throughTunnel(port)));
    for (const answer of answers) assert.match(answer, hello);
    assert.equal((await gateway.counts()).tokens['refresh_token'], 1);
  });

  it('may come later', async (t) => {
    const gateway = await startGatewayProcess(t);
    const home = new Home(t, gateway.url);
    const port = await listenIn(home);
    assert.match(await throughTunnel(port), /^HTTP\/1\.1 403 Forbidden \(TOKEN_MISSING\)\r\n/);
    assert.equal((await home.run('login')).status, 0);
    assert.match(await throughTunnel(port), hello);
  });
});
