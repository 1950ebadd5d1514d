import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import { TunnelError } from '../../../protocol/errors.ts';
import { loopbackDialer, startEcho, startParts } from '../support/gateway-parts.ts';
import { upgradeHead } from '../support/peers.ts';

const expecting = 'Expect: 100-continue\r\n';
const authorization = 'Authorization: Bearer good\r\n';

/** Everything that comes until it matches. */
async function answerTo(port: number, request: string | Buffer, until: RegExp): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.write(request);
  let answer = '';
  while (!until.test(answer)) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    answer += chunk.toString('latin1');
  }
  socket.destroy();
  return answer;
}

describe('connect-tcp with Expect: 100-continue', () => {
  const opened = /101 Switching Protocols\r\n[^]*\r\n\r\n$/;

  it('is answered 100 while the target is still being dialled, and then 101', async () => {
    const echo = await startEcho();
    const dialling = Promise.withResolvers<void>();
    const dialer: typeof loopbackDialer = {
      async dial(grant, signals) {
        await dialling.promise;
        return loopbackDialer.dial(grant, signals);
      },
    };
    const parts = await startParts({ dialer });
    const head = upgradeHead(`/ssh/tcp/localhost/${echo.port}/`, 'connect-tcp', authorization + expecting);
    const socket = connect({ port: parts.port, host: '127.0.0.1' });
    socket.write(head);
    const [first] = (await once(socket, 'data')) as [Buffer];
    assert.equal(first.toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
    dialling.resolve();
    const [second] = (await once(socket, 'data')) as [Buffer];
    assert.match(second.toString(), /^HTTP\/1\.1 101 Switching Protocols\r\n/);
    socket.destroy();
    await parts.close();
    echo.close();
  });

  for (const [what, fields] of [
    ['without it', ''],
    ['for another expectation', 'Expect: something\r\n'],
  ] as const)
    it(`is not sent ${what}`, async () => {
      const [echo, parts] = [await startEcho(), await startParts()];
      const head = upgradeHead(`/ssh/tcp/localhost/${echo.port}/`, 'connect-tcp', authorization + fields);
      assert.match(await answerTo(parts.port, head, opened), /^HTTP\/1\.1 101 /);
      await parts.close();
      echo.close();
    });

  it('is refused without one when the request is refused', async () => {
    const parts = await startParts({
      policy: {
        decide() {
          throw new TunnelError('TARGET_DENIED', 'not allowed');
        },
      },
    });
    for (const [fields, status] of [
      [expecting, 401],
      [authorization + expecting, 403],
    ] as const) {
      const head = upgradeHead('/ssh/tcp/localhost/22/', 'connect-tcp', fields);
      assert.match(await answerTo(parts.port, head, /\r\n\r\n/), new RegExp(`^HTTP/1\\.1 ${status} `));
    }
    await parts.close();
  });

  it('is answered 100 and then with the failure of a target that cannot be reached', async () => {
    const dialer = {
      async dial(): Promise<never> {
        throw new TunnelError('DIAL_TIMEOUT', 'it did not answer');
      },
    };
    const parts = await startParts({ dialer });
    const head = upgradeHead('/ssh/tcp/localhost/22/', 'connect-tcp', authorization + expecting);
    assert.match(
      await answerTo(parts.port, head, /DIAL_TIMEOUT/),
      /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 504 /,
    );
    await parts.close();
  });
});

describe('connect-tcp', () => {
  it('skips a capsule of the highest type there is', async () => {
    const [echo, parts] = [await startEcho(), await startParts()];
    const head = upgradeHead(`/ssh/tcp/localhost/${echo.port}/`, 'connect-tcp', authorization);
    const capsules = Buffer.from('ffffffffffffffff00a028d7f2026869', 'hex');
    const answer = await answerTo(parts.port, Buffer.concat([Buffer.from(head), capsules]), /hi$/);
    assert.ok(answer.endsWith('\xa0\x28\xd7\xf2\x02hi'), answer);
    await parts.close();
    echo.close();
  });
});
