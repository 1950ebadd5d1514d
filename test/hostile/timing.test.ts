import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { before, describe, it } from 'node:test';
import { SignJWT } from 'jose';
import { gatewayCommand, startGateway } from '../e2e/support/gateway.ts';
import type { Gateway } from '../e2e/support/gateway.ts';
import { output } from '../e2e/support/process.ts';
import { openScratch } from '../e2e/support/scratch.ts';
import { upgradeHead } from '../server/support/peers.ts';

const scratch = openScratch();
/** Of each class; at the API, which asks the same authenticator, a quarter. */
const samples = process.env.POSTERN_LONG ? 20_000 : 40;
const atOnce = process.env.POSTERN_LONG ? 80 : 40;
const issuer = 'https://id.example';
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });

interface Change {
  readonly kid?: string;
  readonly claims?: Record<string, unknown>;
  readonly forged?: boolean;
}

async function tokenOf({ kid = 'k', claims = {}, forged = false }: Change = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const all = { iss: issuer, aud: 'postern', sub: 'alice', groups: ['dev'], iat: now, exp: now + 3600 };
  return new SignJWT({ ...all, jti: randomUUID(), ...claims })
    .setProtectedHeader({ alg: 'ES256', kid })
    .sign((forged ? stranger : key).privateKey);
}

/** Requests that must not be told apart, by what is wrong with each. */
type Classes = Readonly<Record<string, string>>;

const head = (token: string | undefined, target = 'box', path = `/ssh/tcp/${target}/22/`): string =>
  upgradeHead(path, 'connect-tcp', token === undefined ? '' : `Authorization: Bearer ${token}\r\n`);
const apiHead = (token: string | undefined): string =>
  `GET /ssh/api/access HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n${token === undefined ? '' : `Authorization: Bearer ${token}\r\n`}\r\n`;

describe('refusals that must not be told apart (T1)', () => {
  let gateway: Gateway;
  let good: string;
  const tokens: Record<string, string | undefined> = {};

  before(async () => {
    const jwksFile = scratch.path('issuer.jwks');
    const jwk = { ...key.publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'ES256' };
    writeFileSync(jwksFile, JSON.stringify({ keys: [jwk] }));
    gateway = await startGateway(scratch, {
      // No process listens there: what is denied must not be dialled.
      targets: { box: '127.0.0.1:9', secret: '127.0.0.1:9' },
      settings: {
        issuers: [{ issuer, audience: 'postern', jwksFile, algorithms: ['ES256'] }],
        rules: [{ groups: ['dev'], targets: ['box'] }],
        limits: { perSubject: 5000, perAddress: 5000 },
        log: { level: 'silent' },
      },
    });
    good = await tokenOf();
    const now = Math.floor(Date.now() / 1000);
    const revoked = randomUUID();
    await output([...gatewayCommand, 'kill', '--token', revoked, '--config', gateway.configFile]);
    Object.assign(tokens, {
      'a wrong signature': await tokenOf({ forged: true }),
      'an unknown key': await tokenOf({ kid: 'x' }),
      'an unknown issuer': await tokenOf({ claims: { iss: 'https://id.exampie' } }),
      'an expired token': await tokenOf({ claims: { iat: now - 7200, exp: now - 3600 } }),
      'another audience': await tokenOf({ claims: { aud: 'pastern' } }),
      'a revoked token': await tokenOf({ claims: { jti: revoked } }),
      'a bound token': await tokenOf({ claims: { cnf: { jkt: sha256('x') } } }),
      'no JSON': `${'x'.repeat(100)}.${'y'.repeat(200)}.${'z'.repeat(86)}`,
      'an unknown ticket': `pt_${sha256('y')}`,
      'no token': undefined,
    });
  });

  /** The answer without what differs from request to request, and how long it took. */
  async function ask(request: string): Promise<{ answer: string; ms: number }> {
    const socket = connect({ host: '127.0.0.1', port: gateway.port, allowHalfOpen: true });
    await once(socket, 'connect');
    const startedAt = performance.now();
    socket.write(request);
    await once(socket, 'readable');
    const ms = performance.now() - startedAt;
    const raw = (await buffer(socket)).toString('latin1');
    socket.destroy();
    const [, id] = /^X-Request-Id: (.+)\r$/im.exec(raw) ?? [];
    assert.ok(id !== undefined, raw);
    const answer = raw
      .replaceAll(id, '[id]')
      .replace(/(?<=^Content-Length: )\d+/im, (length) => `${Number(length) - id.length} and the id's`)
      .replace(/(?<=^Date: ).{29}(?=\r$)/im, '[29 characters]')
      .replaceAll(/secret|nobody/g, '[target]');
    return { answer, ms };
  }

  /** Asks all of them in an order of chance, so that what else the machine does falls on all. */
  async function compare(classes: Classes, count = samples): Promise<void> {
    const entries = Object.entries(classes);
    const times = new Map(entries.map(([what]) => [what, [] as number[]]));
    const answers = new Map<string, Set<string>>();
    const order = shuffled(entries.flatMap((each) => Array.from({ length: count }, () => each)));
    const worker = async (): Promise<void> => {
      for (let due = order.pop(); due; due = order.pop()) {
        const [what, request] = due;
        const { answer, ms } = await ask(request);
        times.get(what)!.push(ms);
        answers.set(answer, (answers.get(answer) ?? new Set()).add(what));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
    assert.equal(
      answers.size,
      1,
      [...answers].map(([answer, of]) => `${[...of].join(', ')}:\n${answer}`).join('\n'),
    );
    const [[first, base]] = [...times] as [[string, number[]]];
    for (const [what, found] of times) {
      assert.ok(Math.min(...found) > 45, `${what}: ${Math.min(...found)} ms`);
      if (what === first) continue;
      const t = welch(base, found);
      const { mean } = momentsOf(found);
      console.log(`${what}: mean ${mean.toFixed(2)} ms, t = ${t.toFixed(2)} against ${first}`);
      if (process.env.POSTERN_LONG) assert.ok(Math.abs(t) < 4.5, `${what}: t = ${t}`);
    }
  }

  const requestsOf = (headOf: (token: string | undefined) => string): Classes =>
    Object.fromEntries(Object.entries(tokens).map(([what, token]) => [what, headOf(token)]));

  it('are the same for every token that is not accepted, at the door', () => compare(requestsOf(head)));
  it('are the same for every token that is not accepted, at the API', () =>
    compare(requestsOf(apiHead), samples / 4));

  it('are the same for every target that is denied, whether there is one or not', () =>
    // Both of six letters: the answer names what was asked for.
    compare(
      Object.fromEntries(
        ['secret', 'nobody'].map((target) => [target, head(good, target, `/ssh/tcp/${target}/22/`)]),
      ),
    ));
});

function shuffled<T>(all: T[]): T[] {
  for (let at = all.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [all[at], all[other]] = [all[other]!, all[at]!];
  }
  return all;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}

/** Mean and variance, without the slowest twentieth: what the machine does besides has no bound. */
function momentsOf(all: readonly number[]): { mean: number; variance: number; count: number } {
  const kept = all.toSorted((a, b) => a - b).slice(0, Math.ceil(all.length * 0.95));
  const mean = kept.reduce((sum, each) => sum + each, 0) / kept.length;
  const variance = kept.reduce((sum, each) => sum + (each - mean) ** 2, 0) / (kept.length - 1);
  return { mean, variance, count: kept.length };
}

/** Welch's t of two samples. */
function welch(one: readonly number[], other: readonly number[]): number {
  const [a, b] = [momentsOf(one), momentsOf(other)];
  return (a.mean - b.mean) / Math.sqrt(a.variance / a.count + b.variance / b.count);
}
