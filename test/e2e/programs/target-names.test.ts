// Names under `targets` are the operator's own: what ssh and Windows accept as the name of a machine works by every entry.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, describe, it } from 'node:test';
import { startGateway } from '../support/gateway.ts';
import type { Gateway } from '../support/gateway.ts';
import { clientBundle, needs } from '../support/needs.ts';
import { run } from '../support/process.ts';
import { openScratch } from '../support/scratch.ts';
import { clientCommand } from '../support/ssh.ts';
import { listen } from '../support/world.ts';

const scratch = openScratch();
const names = ['my_box', '_srv', 'box-', 'a_b.dev_1'] as const;

describe('a target with a name that the DNS does not know', needs('ssh', clientBundle), () => {
  let gateway: Gateway;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    const target = await listen(scratch, (socket) => socket.end('SSH-2.0-reached\r\n'));
    gateway = await startGateway(scratch, {
      targets: Object.fromEntries(names.map((name) => [name, `127.0.0.1:${target}`])),
    });
    environment = {
      POSTERN_GATEWAY: `http://localhost:${gateway.port}/ssh/`,
      POSTERN_TOKEN: readFileSync(gateway.tokenFile, 'utf8').trim(),
      HOME: scratch.path('home'),
    };
  });

  for (const via of ['relay', 'websocket', 'connect-tcp', 'connect', 'http']) {
    it(`is reached by ${via}`, async () => {
      for (const name of [...names, 'MY_BOX']) {
        const { stdout, stderr } = await run(clientCommand('connect', '--via', via, name, '22'), {
          env: environment,
          input: '',
        });
        assert.equal(stdout.toString(), 'SSH-2.0-reached\r\n', stderr.toString());
      }
    });
  }

  it('is reached by ssh, which passes the name on', async () => {
    const command = clientCommand('connect', '--', '%h', '%p').join(' ');
    const ssh = ['ssh', '-F', 'none', '-v', '-o', `ProxyCommand=${command}`, '-o', 'BatchMode=yes', 'my_box'];
    const { stderr } = await run(ssh, { env: { ...process.env, ...environment }, input: '' });
    assert.match(stderr.toString(), /remote software version reached/);
  });

  it('can be in a Host line that the client writes', async () => {
    const written = await run(clientCommand('setup', '--dry-run', '--host', 'my_box'), {
      env: environment,
      input: '',
    });
    assert.match(written.stdout.toString() + written.stderr.toString(), /Host my_box/);
  });
});
