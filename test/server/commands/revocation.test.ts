import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { json } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { SignJWT } from 'jose';
import { capsuleCodes } from '../../../protocol/capsule.ts';
import { openRevocations } from '../../../server/auth/revocations.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { capsuleStream } from '../../../stream/capsule-stream.ts';
import { gatewayCommand, startGateway } from '../../e2e/support/gateway.ts';
import type { Gateway } from '../../e2e/support/gateway.ts';
import { run } from '../../e2e/support/process.ts';
import type { Outcome } from '../../e2e/support/process.ts';
import { openScratch } from '../../e2e/support/scratch.ts';
import { runInTerminal } from '../../e2e/support/terminal.ts';
import { codeOf, exchange, startEcho, statusOf } from '../support/gateway-parts.ts';
import { outcome, rawUpgrade, upgradeHead, webSocketFields } from '../support/peers.ts';
import { makeProof, newProofKey } from '../support/proof.ts';

const scratch = openScratch();
const issuer = 'https://id.example';
const signer = newProofKey('EdDSA');
const holder = newProofKey();

interface Claims {
  readonly [claim: string]: unknown;
}

async function tokenOf(subject: string, claims: Claims = {}): Promise<string> {
  return new SignJWT({ groups: ['dev'], jti: randomUUID(), ...claims })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'k' })
    .setIssuer(issuer)
    .setAudience('postern')
    .setSubject(subject)
    .setIssuedAt()
    .setExpirationTime('10m')
    .sign(signer.privateKey);
}

const boundToken = (claims: Claims = {}): Promise<string> =>
  tokenOf('alice', { cnf: { jkt: holder.thumbprint }, ...claims });

const connectHead = (token: string): string =>
  `CONNECT echo:22 HTTP/1.1\r\nHost: echo:22\r\nProxy-Authorization: Basic ${btoa(`any:${token}`)}\r\n\r\n`;

describe('a gateway with state', () => {
  let echo: Awaited<ReturnType<typeof startEcho>>;
  let gateway: Gateway;
  const settings = (): { publicUrl: string; store: { file: string } } =>
    JSON.parse(readFileSync(gateway.configFile, 'utf8')) as ReturnType<typeof settings>;

  before(async () => {
    echo = await startEcho();
    const jwksFile = scratch.path('issuer.jwks');
    writeFileSync(jwksFile, JSON.stringify({ keys: [{ ...signer.jwk, kid: 'k', alg: 'EdDSA' }] }));
    gateway = await startGateway(scratch, {
      targets: { echo: `127.0.0.1:${echo.port}` },
      settings: {
        issuers: [{ issuer, audience: 'postern', jwksFile, algorithms: ['EdDSA'] }],
        limits: { perSubject: 1000, perAddress: 1000 },
      },
    });
  });
  after(() => echo.close());

  const command = (args: string[], input?: string): Promise<Outcome> =>
    run([...gatewayCommand, ...args, '--config', gateway.configFile], input === undefined ? {} : { input });

  function proofOf(token: string, path: string, method = 'GET'): string {
    const url = new URL(path, settings().publicUrl).href;
    return makeProof(holder, { method, url, token, nowMs: Date.now() });
  }

  const path = '/ssh/tcp/echo/22/';
  const head = (fields: string): string => upgradeHead(path, 'connect-tcp', fields);

  async function open(token: string, fields = `Authorization: Bearer ${token}\r\n`): Promise<Duplex> {
    const tunnel = capsuleStream(await rawUpgrade(gateway.port, head(fields)), capsuleCodes('connect-tcp')!, {
      hearsReasons: true,
    });
    tunnel.write('?');
    await once(tunnel, 'data');
    return tunnel;
  }

  async function api(
    token: string,
    {
      method = 'GET',
      of = '/ssh/api/access',
      body,
      type = 'application/json',
      prove = false,
    }: {
      method?: string;
      of?: string;
      body?: string;
      type?: string;
      prove?: boolean;
    } = {},
  ): Promise<{ status: number; answer: Record<string, unknown>; challenges: string[] }> {
    const headers = {
      connection: 'close',
      authorization: `${prove ? 'DPoP' : 'Bearer'} ${token}`,
      ...(prove && { dpop: proofOf(token, of, method) }),
      ...(body !== undefined && { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
    };
    const asking = request({ port: gateway.port, host: '127.0.0.1', path: of, method, headers }).end(body);
    const [response] = (await once(asking, 'response')) as [import('node:http').IncomingMessage];
    const challenges = response.headersDistinct['www-authenticate'] ?? [];
    return {
      status: response.statusCode!,
      answer: (await json(response)) as Record<string, unknown>,
      challenges,
    };
  }

  function audit(event: string): Record<string, unknown>[] {
    const lines = readFileSync(gateway.auditFile, 'utf8').trim().split('\n');
    return lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((each) => each.event === event);
  }

  it('opens a tunnel with a bound token and its proof, by both upgrades', async () => {
    const token = await boundToken();
    const fields = (): string => `Authorization: DPoP ${token}\r\nDPoP: ${proofOf(token, path)}\r\n`;
    (await open(token, fields())).destroy();
    const socket = await rawUpgrade(gateway.port, upgradeHead(path, 'websocket', webSocketFields + fields()));
    socket.destroy();
  });

  it('refuses a bound token without its proof, with a proof that was used, of another key, or for another place', async () => {
    const token = await boundToken();
    const used = proofOf(token, path);
    const by = (proof: string): string => head(`Authorization: DPoP ${token}\r\nDPoP: ${proof}\r\n`);
    (await rawUpgrade(gateway.port, by(used))).destroy();
    const url = new URL(path, settings().publicUrl).href;
    const stolen = makeProof(newProofKey(), { method: 'GET', url, token, nowMs: Date.now() });
    const plain = await tokenOf('alice');
    for (const ask of [
      head(`Authorization: Bearer ${token}\r\n`),
      head(`Authorization: DPoP ${token}\r\n`),
      head(`Authorization: Bearer ${token}\r\nDPoP: ${proofOf(token, path)}\r\n`),
      by(used),
      by(stolen),
      by(proofOf(token, '/ssh/tcp/other/22/')),
      by(proofOf(token, path, 'POST')),
      // A proof for a token that is bound to nothing.
      head(`Authorization: DPoP ${plain}\r\nDPoP: ${proofOf(plain, path)}\r\n`),
    ]) {
      const answer = await exchange(gateway.port, ask);
      assert.equal(codeOf(answer), 'TOKEN_INVALID');
      assert.match(answer, /WWW-Authenticate: DPoP algs="ES256 EdDSA"\r\n/);
    }
    assert.equal(statusOf(await exchange(gateway.port, connectHead(token))), 407);
    const twice = `Authorization: DPoP ${token}\r\nDPoP: ${proofOf(token, path)}\r\nDPoP: x\r\n`;
    assert.equal(codeOf(await exchange(gateway.port, head(twice))), 'REQUEST_INVALID');
  });

  it('accepts of one proof that comes a hundred times at once exactly one', async () => {
    const token = await boundToken();
    const ask = head(`Authorization: DPoP ${token}\r\nDPoP: ${proofOf(token, path)}\r\n`);
    const asked = await Promise.allSettled(Array.from({ length: 100 }, () => rawUpgrade(gateway.port, ask)));
    const opened = asked.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    assert.equal(opened.length, 1);
    opened[0]!.destroy();
  });

  it('tells a client what it may reach, and its own tunnels only', async () => {
    const token = await boundToken();
    const [mine, other] = [await open(await tokenOf('alice')), await open(await tokenOf('bob'))];
    const { status, answer } = await api(token, { prove: true });
    assert.equal(status, 200);
    assert.deepEqual([answer.subject, answer.groups], ['alice', ['dev']]);
    assert.deepEqual(answer.hosts, [{ pattern: 'echo:*' }]);
    const sessions = answer.sessions as Record<string, unknown>[];
    assert.deepEqual(
      sessions.map(({ target, entry, client }) => [target, entry, client]),
      [['echo:22', 'connect-tcp', '127.0.0.1']],
    );
    assert.ok(Date.parse(String(answer.until)) > Date.now());
    mine.destroy();
    other.destroy();
  });

  it('tells a stranger nothing', async () => {
    const bound = await boundToken();
    for (const token of ['x', bound, 'pt_x']) {
      const { status, answer, challenges } = await api(token);
      assert.deepEqual([status, answer.code], [401, 'TOKEN_INVALID']);
      assert.deepEqual(challenges, ['Bearer realm="postern"', 'DPoP algs="ES256 EdDSA"']);
    }
  });

  it('gives a ticket that opens a tunnel by Basic once, and nothing else', async () => {
    const body = JSON.stringify({ targets: ['echo'], ttlSeconds: 60 });
    const made = await api(await boundToken(), { method: 'POST', of: '/ssh/api/tickets', body, prove: true });
    assert.equal(made.status, 201);
    const ticket = String(made.answer.ticket);
    assert.equal((await api(ticket)).status, 401);
    const tunnel = await rawUpgrade(gateway.port, connectHead(ticket));
    tunnel.end('through');
    assert.equal(String((await once(tunnel, 'data'))[0]), 'through');
    assert.equal(statusOf(await exchange(gateway.port, connectHead(ticket))), 407);
    const [record] = audit('ticket');
    assert.deepEqual([record?.subject, record?.targets, record?.uses], ['alice', ['echo'], 1]);
    assert.equal(readFileSync(gateway.auditFile, 'utf8').includes(ticket), false);
    assert.equal(gateway.running.log().includes(ticket), false);
  });

  it('refuses requests for tickets that are none, whatever their content type says', async () => {
    const token = await tokenOf('alice');
    const ask = (body: string, type?: string): ReturnType<typeof api> =>
      api(token, { method: 'POST', of: '/ssh/api/tickets', body, ...(type !== undefined && { type }) });
    for (const body of [
      '{"ttlSeconds":3601}',
      '{"ttlSeconds":0}',
      '{"uses":11}',
      '{"uses":1.5}',
      '{"targets":[]}',
      '{"targets":["*foo"]}',
      '{"target":"echo"}',
      '{"__proto__":{"uses":5}}',
      '[]',
      '"x"',
      '{',
    ])
      assert.equal((await ask(body)).status, 400, body);
    for (const type of [
      'application/json',
      'application/json; charset=utf-8',
      'APPLICATION/JSON',
      'application/json ;x',
    ])
      assert.equal((await ask('{"uses":2}', type)).status, 201, type);
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data',
      'application/jsonx',
      'text/json',
      'application/json,text/plain',
      '\tapplication/json\t',
      '',
    ])
      assert.ok([201, 400, 415].includes((await ask('{"uses":99}', type)).status), type);
    for (const type of ['text/plain', '\tapplication/json', 'application/json\t;', 'application/json/', ''])
      assert.notEqual((await ask('{"uses":99}', type)).status, 201, type);
  });

  it('shows its sessions and ends the one that is named, over a socket for its owner alone', async () => {
    const tunnel = await open(await tokenOf('carol', { sid: 'sign-in of carol' }));
    const { stdout, code } = await command(['sessions', '--json']);
    assert.equal(code, 0);
    const shown = (JSON.parse(stdout.toString()) as Record<string, unknown>[]).find(
      ({ subject }) => subject === 'carol',
    )!;
    assert.deepEqual(
      [shown.state, shown.target, shown.entry, shown.signIn, shown.issuer],
      ['open', 'echo:22', 'connect-tcp', 'sign-in of carol', issuer],
    );
    assert.match(
      (await command(['sessions'])).stdout.toString(),
      new RegExp(`^${String(shown.id)} +carol +echo:22 `, 'm'),
    );
    const ended = outcome(tunnel);
    const killed = await command(['kill', String(shown.id), '--reason', 'too loud']);
    assert.deepEqual([killed.code, killed.stdout.toString()], [0, '1 session ended\n']);
    assert.equal(await ended, 'TUNNEL_KILLED');
    // The record follows the end of the tunnel.
    const recorded = () => audit('end').find(({ session }) => session === shown.id);
    while (!recorded()) await delay(10);
    const record = recorded();
    assert.deepEqual([record?.cause, record?.reason], ['KILLED', 'too loud']);
    assert.equal((await command(['kill', String(shown.id)])).code, 1);
    const { control } = settings() as unknown as { control: string };
    assert.equal(statSync(control.slice('unix:'.length)).mode & 0o777, 0o600);
  });

  const shownSubjects = async (): Promise<string[]> => {
    const { stdout } = await command(['sessions', '--json']);
    return (JSON.parse(stdout.toString()) as { subject: string }[]).map(({ subject }) => subject);
  };

  it('ends the sessions of a subject or to a target, and those only', async () => {
    const [dave, erin] = [await open(await tokenOf('dave')), await open(await tokenOf('erin'))];
    const [ofDave, ofErin] = [outcome(dave), outcome(erin)];
    assert.equal((await command(['kill', '--target', 'nowhere'])).code, 1);
    assert.equal((await command(['kill', '--subject', 'dave', '--target', 'echo:22'])).code, 0);
    assert.equal(await ofDave, 'TUNNEL_KILLED');
    assert.deepEqual(
      (await shownSubjects()).filter((subject) => ['dave', 'erin'].includes(subject)),
      ['erin'],
    );
    assert.equal((await command(['kill', '--target', 'echo'])).code, 0);
    assert.equal(await ofErin, 'TUNNEL_KILLED');
    // Killed is not revoked.
    (await open(await tokenOf('dave'))).destroy();
  });

  it('believes nothing any more that a subject had, with --revoke, nor a token that is named', async () => {
    const token = await tokenOf('frank');
    const ticket = String(
      (await api(token, { method: 'POST', of: '/ssh/api/tickets', body: '{}' })).answer.ticket,
    );
    const tunnel = await open(token);
    const ended = outcome(tunnel);
    assert.equal((await command(['kill', '--subject', 'frank', '--revoke', '--reason', 'left'])).code, 0);
    assert.equal(await ended, 'TUNNEL_KILLED');
    assert.equal(
      codeOf(await exchange(gateway.port, head(`Authorization: Bearer ${token}\r\n`))),
      'TOKEN_INVALID',
    );
    assert.equal(statusOf(await exchange(gateway.port, connectHead(ticket))), 407);
    assert.equal((await api(token)).status, 401);
    while (audit('revoke').at(-1)?.reason !== 'left') await delay(10);
    const one = await tokenOf('grace', { jti: 'the one' });
    assert.equal((await command(['kill', '--token', 'the one'])).code, 0);
    assert.equal(
      codeOf(await exchange(gateway.port, head(`Authorization: Bearer ${one}\r\n`))),
      'TOKEN_INVALID',
    );
    (await open(await tokenOf('grace'))).destroy();
  });

  for (const argv of [
    ['kill'],
    ['kill', '--revoke', 'x'],
    ['kill', '--nonsense'],
    ['sessions', '--nonsense'],
  ]) {
    it(`${argv.join(' ')} is no command`, async () => assert.equal((await command(argv)).code, 2));
  }

  it('ends 200 tunnels within a second of a sign-in that another process ends (K1)', async () => {
    const tokens = await Promise.all(
      Array.from({ length: 200 }, () => tokenOf('heidi', { sid: 'one sign-in' })),
    );
    const tunnels: Socket[] = [];
    for (const token of tokens) tunnels.push(await rawUpgrade(gateway.port, connectHead(token)));
    const other = await open(await tokenOf('heidi', { sid: 'another sign-in' }));
    const store = await openSqliteStore(settings().store.file);
    const startedAt = performance.now();
    const gone = tunnels.map(async (tunnel) => {
      assert.equal(await outcome(tunnel), 'ECONNRESET');
      return performance.now() - startedAt;
    });
    await (await openRevocations(store)).revoke({ kind: 'signIn', signInId: 'one sign-in' }, 'signed out');
    const times = (await Promise.all(gone)).toSorted((a, b) => a - b);
    await store.close();
    assert.ok(times.at(-1)! < 5000, `the last after ${times.at(-1)} ms`);
    other.write('?');
    await once(other, 'data');
    other.destroy();
    while (audit('end').filter(({ cause }) => cause === 'REVOKED').length < 200) await delay(10);
  });

  it('says clearly that there is no room for its store, and does not start', async () => {
    const file = scratch.path('full.db');
    const configFile = scratch.path('full.yaml');
    const of = { listen: '127.0.0.1:0', admin: '127.0.0.1:0', store: { file } };
    writeFileSync(configFile, JSON.stringify({ ...settings(), ...of }));
    // A limit on the size of files is a full disk that needs no disk; ignored, the signal becomes an error.
    const limit = ['sh', '-c', 'trap "" XFSZ; ulimit -f 4; exec "$0" "$@"'];
    const { code, stderr } = await run([...limit, ...gatewayCommand, 'serve', '--config', configFile]);
    assert.equal(code, 1);
    assert.match(
      stderr.toString(),
      /^postern-gateway: the store .*full\.db cannot be used: the disk (?:is full|failed).* \(STORE_UNAVAILABLE\)\n$/,
    );
  });

  it('says clearly that its store is damaged, and does not start', async () => {
    const file = scratch.path('damaged.db');
    writeFileSync(file, 'a letter to somebody '.repeat(1000), { mode: 0o600 });
    const configFile = scratch.path('damaged.yaml');
    writeFileSync(
      configFile,
      JSON.stringify({ ...settings(), listen: '127.0.0.1:0', admin: '127.0.0.1:0', store: { file } }),
    );
    const { code, stderr } = await run([...gatewayCommand, 'serve', '--config', configFile]);
    assert.equal(code, 1);
    assert.match(
      stderr.toString(),
      /^postern-gateway: the store .*damaged\.db cannot be used: .+ \(STORE_UNAVAILABLE\)\n$/,
    );
  });
});

describe('postern-gateway user', () => {
  it('asks twice at a terminal, and shows nothing of what is typed', async () => {
    const configFile = scratch.path('users.yaml');
    writeFileSync(configFile, JSON.stringify({ store: { file: scratch.path('users.db') } }));
    const user = (what: string): string =>
      [...gatewayCommand, 'user', what, '--config', configFile].join(' ');
    const first = { prompt: /Password: $/, type: 'canary passwort\x7fd' };
    const answers = [first, { prompt: /Again: $/, type: 'canary password' }];
    const { code, stdout } = await runInTerminal(user('add erin'), answers, {});
    assert.equal(code, 0, stdout.toString());
    assert.doesNotMatch(stdout.toString(), /canary/);
    const different = [first, { prompt: /Again: $/, type: 'something else' }];
    assert.equal((await runInTerminal(user('add frieda'), different, {})).code, 2);
    const { stdout: list } = await run(user('list').split(' '));
    assert.equal(list.toString(), 'erin\n');
  });
});
