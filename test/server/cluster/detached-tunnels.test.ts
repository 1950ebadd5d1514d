import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { before, describe, it } from 'node:test';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { auditOf, audited, startNext } from '../../e2e/support/generations.ts';
import { clientBundle, needs } from '../../e2e/support/needs.ts';
import { eventually, own, run } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { clientCommand } from '../../e2e/support/ssh.ts';
import { startTarget } from '../support/gateway-parts.ts';

const perSubject = 2;

describe('tunnels of clients that were killed', needs(clientBundle), () => {
  const scratch = openScratch();
  let gateway: Gateway;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    // A server that says something, and never ends.
    const target = await startTarget((socket) => void socket.resume().write('SSH-2.0-test\r\n'));
    scratch.onEnd(() => target.close());
    gateway = await startGateway(scratch, {
      targets: { box: `127.0.0.1:${target.port}` },
      settings: { workers: 2, limits: { perSubject, graceSeconds: 0 } },
    });
    env = {
      ...process.env,
      HOME: scratch.directory,
      POSTERN_GATEWAY: `http://127.0.0.1:${gateway.port}/ssh/`,
      POSTERN_TOKEN_FILE: gateway.tokenFile,
    };
  });

  interface Client {
    readonly process: ChildProcess;
    readonly session: string;
  }

  /** A real client with an open tunnel. */
  async function open(): Promise<Client> {
    const known = new Set(auditOf(gateway).map(({ session }) => session));
    const [program, ...args] = clientCommand('connect', 'box');
    const client = own(spawn(program!, args, { env, stdio: ['pipe', 'pipe', 'inherit'] }));
    client.stdin.on('error', () => {});
    await new Promise((resolve) => client.stdout.once('data', resolve));
    const opened = auditOf(gateway).find(({ event, session }) => event === 'open' && !known.has(session));
    scratch.onEnd(() => void client.kill('SIGKILL'));
    return { process: client, session: String(opened!['session']) };
  }

  async function killed(...clients: readonly Client[]): Promise<void> {
    for (const { process: client, session } of clients) {
      client.kill('SIGKILL');
      await audited(gateway, 1, (record) => record['event'] === 'detach' && record['session'] === session);
    }
  }

  function displaced(count: number): Promise<readonly string[]> {
    return audited(gateway, count, ({ event, cause }) => event === 'end' && cause === 'DISPLACED').then(
      (found) => found.map(({ session }) => String(session)),
    );
  }

  async function sessions(...args: readonly string[]): Promise<string> {
    const command = [...gatewayCommand, 'sessions', ...args, '--config', gateway.configFile];
    const { code, stdout, stderr } = await run(command);
    assert.equal(code, 0, stderr.toString());
    return stdout.toString();
  }

  it('are no limit for new ones: the oldest makes room, in whatever process it is', async () => {
    const first = [await open(), await open()];
    await killed(...first);
    const third = await open();
    assert.deepEqual(await displaced(1), [first[0]!.session]);
    const shown = JSON.parse(await sessions('--json')) as Readonly<Record<string, unknown>>[];
    const states = shown.map(({ id, state, detachedSince }) => [id, state, typeof detachedSince]);
    assert.deepEqual(
      new Map(states.map(([id, ...rest]) => [id, rest.join(' ')])),
      new Map([
        [first[1]!.session, 'detached number'],
        [third.session, 'open undefined'],
      ]),
    );
    assert.match(await sessions(), /waits for its client since 20\d\d-/);

    const status = await run(clientCommand('status', '--json'), { env });
    const { sessions: own } = JSON.parse(status.stdout.toString()) as {
      sessions: { id: string; state: string }[];
    };
    assert.deepEqual(
      new Map(own.map(({ id, state }) => [id, state])),
      new Map([
        [first[1]!.session, 'detached'],
        [third.session, 'open'],
      ]),
    );
    assert.match(
      (await run(clientCommand('status'), { env })).stdout.toString(),
      /waits for its client since 20/,
    );

    // Those of the old generation make room for those of the new one.
    await killed(third);
    await startNext(scratch, gateway);
    const fourth = [await open(), await open()];
    await killed(...fourth);
    const last = await open();
    const ended = await displaced(4);
    const expected = [first[0]!, first[1]!, third, fourth[0]!].map(({ session }) => session);
    assert.deepEqual(ended.toSorted(), expected.toSorted());
    await eventually(async () => (JSON.parse(await sessions('--json')) as unknown[]).length === 2);
    assert.equal(last.process.exitCode ?? last.process.signalCode, null);
  });
});
