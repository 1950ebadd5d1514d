import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { TestContext } from 'node:test';
import { own } from '../../e2e/support/process.ts';
import { listen, temporaryDirectory } from '../support.ts';

const root = join(import.meta.dirname, '../../..');

/** A line end, a C0 and a C1 control sequence, an override of the writing direction, a line separator, a tag character. */
const hostile = 'a\nb\x1b[2J\x9b31m\u202egpj\u2028\u{e0041}';

/** A gateway that puts such text wherever a client shows something of it, in answers and in refusals. */
function hostileGateway(isRefusing: boolean) {
  return createServer((request, response) => {
    const problem = { code: 'TARGET_DENIED', title: hostile, detail: hostile, requestId: hostile };
    const access = {
      subject: hostile,
      issuer: hostile,
      groups: [hostile],
      client: hostile,
      hosts: [{ pattern: hostile }],
      sessions: [{ id: hostile, target: hostile, since: hostile, state: 'open' }],
    };
    const discovery = {
      name: 'postern',
      version: hostile,
      entries: ['relay', hostile],
      signIn: { issuer: hostile },
    };
    const ticket = { ticket: hostile, expiresAt: '2030-01-01T00:00:00Z' };
    const path = request.url ?? '';
    const body = path.includes('api/access') ? access : path.includes('api/tickets') ? ticket : discovery;
    const isProblem = isRefusing || (body === discovery && path.includes('relay'));
    response.setHeader('Content-Type', isProblem ? 'application/problem+json' : 'application/json');
    response.setHeader('Server', 'x\x9b31m');
    response.writeHead(isProblem ? 403 : body === ticket ? 201 : 200);
    response.end(JSON.stringify(isProblem ? problem : body));
  }).on('upgrade', (_request, socket) => {
    const body = JSON.stringify({ code: 'TARGET_DENIED', detail: hostile, requestId: hostile });
    socket.end(
      `HTTP/1.1 403 No\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  });
}

async function postern(t: TestContext, port: number, args: readonly string[]) {
  const home = temporaryDirectory(t);
  const env = {
    HOME: home,
    PATH: process.env['PATH']!,
    POSTERN_GATEWAY: `http://127.0.0.1:${port}/`,
    POSTERN_TOKEN: 'pt_x',
  };
  const child = own(
    spawn(process.execPath, [join(root, 'client/main.ts'), ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  );
  t.after(() => child.kill('SIGKILL'));
  const [stdout, stderr]: [string[], string[]] = [[], []];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => stdout.push(chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => stderr.push(chunk));
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return { child, closed, stdout: () => stdout.join(''), stderr: () => stderr.join('') };
}

function assertHarmless(text: string): void {
  assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{C}\p{Zl}\p{Zp}]/u);
}

describe('text of a hostile gateway', () => {
  for (const isRefusing of [false, true]) {
    for (const command of [
      ['hosts'],
      ['status'],
      ['ticket', 'box'],
      ['doctor'],
      ['doctor', 'box'],
      ['connect', 'box'],
    ]) {
      for (const isJson of command[0] === 'connect' ? [false] : [true, false]) {
        const args = [...command, ...(isJson ? ['--json'] : [])];
        it(`does nothing to a terminal in ${args.join(' ')} of ${isRefusing ? 'a refusal' : 'an answer'}`, async (t) => {
          const port = await listen(t, hostileGateway(isRefusing));
          const run = await postern(t, port, args);
          await run.closed;
          assertHarmless(run.stdout());
          assertHarmless(run.stderr());
          if (isJson && run.stdout() !== '') JSON.parse(run.stdout());
          assert.ok(run.stdout() + run.stderr() !== '');
        });
      }
    }
  }

  it('does nothing to a terminal in the lines of listen --json', async (t) => {
    const port = await listen(t, hostileGateway(true));
    const run = await postern(t, port, ['listen', '--json', '-L', '127.0.0.1:0:box:22']);
    while (!run.stdout().includes('"port"') && !run.stdout().includes('listening'))
      await new Promise((resolve) => run.child.stdout.once('data', resolve));
    const local = Number(/127\.0\.0\.1:(\d+)|"port":\s*(\d+)/.exec(run.stdout())?.slice(1).find(Boolean));
    const socket = connect(local, '127.0.0.1');
    await new Promise((resolve) =>
      socket
        .on('error', () => {})
        .resume()
        .once('close', resolve),
    );
    run.child.kill('SIGTERM');
    await run.closed;
    for (const line of run.stdout().trim().split('\n')) {
      assertHarmless(line);
      JSON.parse(line);
    }
    assert.match(run.stdout(), /TARGET_DENIED/);
  });

  it('is never printed as plain JSON by a command', () => {
    for (const folder of ['client/commands', 'server/commands', 'client/local-proxy'])
      for (const name of readdirSync(join(root, folder))) {
        const lines = readFileSync(join(root, folder, name), 'utf8').split('\n');
        for (const line of lines)
          assert.doesNotMatch(line, /(?:print|stdout\.write)\(.*JSON\.stringify/, name);
      }
  });
});
