import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify from 'fastify';
import type { FastifyInstance } from 'fastify';
import { SignJWT, calculateJwkThumbprint, exportJWK } from 'jose';
import type { JWK } from 'jose';
import { addAccount } from '../../../server/login/accounts/accounts.ts';
import { postern } from '../../../server/plugin.ts';
import { openSqliteStore } from '../../../server/store/open-store.ts';
import { freePort } from '../../e2e/support/process.ts';

export const password = 'correct horse battery';

/** A gateway with sign-in, on a port of loopback, in this process. */
export interface TestGateway {
  /** Ends in `/ssh/`. */
  readonly url: string;
  readonly folder: string;
  readonly storeFile: string;
  readonly auditFile: string;
  close(): Promise<void>;
}

/** Starts a gateway with the account `alice` of the group `dev`. */
export async function startTestGateway(settings: object = {}): Promise<TestGateway> {
  const folder = mkdtempSync(join(tmpdir(), 'postern-login-'));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/ssh/`;
  const storeFile = join(folder, 'postern.db');
  const auditFile = join(folder, 'audit.jsonl');
  const app = fastify({ logger: false, forceCloseConnections: true }) as unknown as FastifyInstance;
  app.register(postern, {
    prefix: '/ssh',
    config: {
      publicUrl: url,
      keyFile: join(folder, 'key.json'),
      store: { file: storeFile },
      control: `unix:${join(folder, 'control.sock')}`,
      audit: { file: auditFile },
      rules: [{ groups: ['dev'], targets: ['*.dev.example', 'box.example:22'] }],
      limits: { graceSeconds: 1 },
      log: { level: 'silent' },
      ...settings,
    },
  });
  await app.listen({ host: '127.0.0.1', port });
  const store = await openSqliteStore(storeFile);
  await addAccount(store, { name: 'alice', password, groups: ['dev'] });
  await addAccount(store, { name: 'bob', password, groups: [] });
  await store.close();
  return {
    url,
    folder,
    storeFile,
    auditFile,
    async close() {
      await app.close();
      rmSync(folder, { recursive: true });
    },
  };
}

/** An answer, with its body read. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly location: string | undefined;
  readonly url: string;
  readonly text: string;
}

/** What of a browser matters here: cookies with their paths, redirects, forms. */
export class Browser {
  readonly #cookies = new Map<string, { value: string; path: string; host: string }>();
  readonly headers: Record<string, string> = {};

  async get(url: string | URL): Promise<Answer> {
    return this.#ask(new URL(url), { method: 'GET' });
  }

  async post(
    url: string | URL,
    fields: Record<string, string>,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    return this.#ask(new URL(url), { method: 'POST', body: new URLSearchParams(fields), headers });
  }

  /** Follows redirects as long as they stay at `within`. */
  async follow(answer: Answer, within: string): Promise<Answer> {
    if (answer.location?.startsWith(within) !== true) return answer;
    return this.follow(await this.get(answer.location), within);
  }

  get cookies(): ReadonlyMap<string, { value: string; path: string }> {
    return this.#cookies;
  }

  forget(): void {
    this.#cookies.clear();
  }

  async #ask(url: URL, init: RequestInit): Promise<Answer> {
    const fitting = [...this.#cookies].filter(
      ([, { path, host }]) => host === url.host && covers(path, url.pathname),
    );
    const cookie = fitting.map(([name, { value }]) => `${name.split('|')[0]}=${value}`).join('; ');
    const response = await fetch(url, {
      ...init,
      redirect: 'manual',
      headers: {
        accept: 'text/html',
        ...(cookie && { cookie }),
        ...this.headers,
        ...(init.headers as object),
      },
    });
    for (const set of response.headers.getSetCookie()) this.#keep(set, url.host);
    const location = response.headers.get('location');
    return {
      status: response.status,
      headers: response.headers,
      location: location === null ? undefined : new URL(location, url).href,
      url: url.href,
      text: await response.text(),
    };
  }

  #keep(set: string, host: string): void {
    const [pair = '', ...attributes] = set.split(';').map((part) => part.trim());
    const name = pair.slice(0, pair.indexOf('='));
    const value = pair.slice(name.length + 1);
    const path = attributes.find((each) => /^path=/i.test(each))?.slice(5) ?? '/';
    const isGone =
      value === '' ||
      attributes.some((each) => /^expires=thu, 01 jan 1970/i.test(each) || each === 'Max-Age=0');
    if (isGone) this.#cookies.delete(`${name}|${path}`);
    else this.#cookies.set(`${name}|${path}`, { value, path, host });
  }
}

function covers(path: string, pathname: string): boolean {
  return pathname === path || pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
}

/** The value of the first hidden field of that name. */
export function hidden(page: string, name: string): string {
  const value = new RegExp(`name="${name}" value="([^"]*)"`).exec(page)?.[1];
  if (value === undefined) throw new Error(`the page has no field ${name}:\n${page}`);
  return value;
}

/** A key for proofs, and what makes them. */
export interface TestKey {
  readonly thumbprint: string;
  prove(method: string, url: string, more?: Record<string, unknown>): Promise<string>;
}

export async function makeKey(): Promise<TestKey> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwk: JWK = await exportJWK(publicKey);
  return {
    thumbprint: await calculateJwkThumbprint(jwk),
    prove: (htm, htu, more = {}) =>
      new SignJWT({ htm, htu, jti: randomUUID(), ...more })
        .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
        .setIssuedAt()
        .sign(createPrivateKey(privateKey.export({ format: 'pem', type: 'pkcs8' }))),
  };
}

/** A sign-in as the client would begin it. */
export interface Beginning {
  readonly url: string;
  readonly verifier: string;
  readonly state: string;
  readonly redirectUri: string;
}

export function begin(gateway: string, parameters: Record<string, string | undefined> = {}): Beginning {
  const verifier = randomBytes(32).toString('base64url');
  const state = randomBytes(16).toString('base64url');
  const redirectUri = `http://127.0.0.1:43210/${randomBytes(16).toString('base64url')}`;
  const url = new URL('oauth/auth', gateway);
  const all = {
    response_type: 'code',
    client_id: 'postern',
    redirect_uri: redirectUri,
    scope: 'openid',
    state,
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
    ...parameters,
  };
  for (const [name, value] of Object.entries(all)) if (value !== undefined) url.searchParams.set(name, value);
  return { url: url.href, verifier, state, redirectUri };
}

/** Signs in with an account up to the redirect back to the program. */
export async function signIn(
  browser: Browser,
  gateway: string,
  { url }: Beginning,
  fields: Record<string, string> = {},
): Promise<Answer> {
  const page = await browser.follow(await browser.get(url), gateway);
  const token = hidden(page.text, 'token');
  const answer = await browser.post(page.url, { name: 'alice', password, token, ...fields });
  return browser.follow(answer, gateway);
}

/** Tokens, or the refusal. */
export interface TokenAnswer {
  readonly status: number;
  readonly access_token: string;
  readonly refresh_token: string;
  readonly token_type: string;
  readonly expires_in: number;
  readonly error?: string;
}

export async function requestTokens(
  gateway: string,
  key: TestKey | undefined,
  fields: Record<string, string>,
): Promise<TokenAnswer> {
  const url = new URL('oauth/token', gateway).href;
  const response = await fetch(url, {
    method: 'POST',
    headers: key ? { DPoP: await key.prove('POST', url) } : {},
    body: new URLSearchParams({ client_id: 'postern', ...fields }),
  });
  return { status: response.status, ...((await response.json()) as Omit<TokenAnswer, 'status'>) };
}

/** The fields of a request for the tokens of a code. */
export function codeFields(beginning: Beginning, back: string | undefined): Record<string, string> {
  const code = new URL(back ?? 'none:').searchParams.get('code') ?? '';
  return {
    grant_type: 'authorization_code',
    code,
    redirect_uri: beginning.redirectUri,
    code_verifier: beginning.verifier,
  };
}

/** Requests the access of a token from the API. */
export async function askAccess(gateway: string, key: TestKey, token: string): Promise<Response> {
  const url = new URL('api/access', gateway).href;
  const ath = createHash('sha256').update(token).digest('base64url');
  return fetch(url, {
    headers: { Authorization: `DPoP ${token}`, DPoP: await key.prove('GET', url, { ath }) },
  });
}
