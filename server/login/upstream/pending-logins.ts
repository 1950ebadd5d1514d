import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { Store, Table } from '../../store/store.ts';
import { originSchema } from '../sign-ins.ts';
import { upstreamIdentity } from './identities.ts';

const authorizationRequest = z.object({ state: z.string(), nonce: z.string(), verifier: z.string() });
/** What has to be remembered of an authorization request while the person is at the provider. */
export type AuthorizationRequestState = Readonly<z.output<typeof authorizationRequest>>;

/** A browser that is at a provider now, and will come back. */
const pendingLogin = z.object({
  ...authorizationRequest.shape,
  provider: z.string(),
  /** The sign-in that it left; the only place where it can come back to. */
  uid: z.string(),
  /** The hash of its cookie. */
  browser: z.string(),
});
type PendingLogin = Readonly<z.output<typeof pendingLogin>>;

const loginResult = z.object({ identity: upstreamIdentity, origin: originSchema });
/** What a provider has stated of a person who signed in there. */
export type UpstreamLogin = Readonly<z.output<typeof loginResult>>;

const pendingMs = 900_000;
const resultMs = 120_000;

/** The browsers that are at a provider, each good for one return, and what the provider stated when they came back. */
export class PendingLogins {
  readonly #pending: Table<PendingLogin>;
  readonly #results: Table<UpstreamLogin>;
  readonly #now: () => number;

  constructor(store: Store, now: () => number = Date.now) {
    this.#pending = store.table('pendingLogin', pendingLogin);
    this.#results = store.table('loginResult', loginResult);
    this.#now = now;
  }

  /** Resolves to the cookie that ties the provider's answer to this browser. */
  async start(request: AuthorizationRequestState, provider: string, uid: string): Promise<string> {
    const cookie = randomBytes(32).toString('base64url');
    const login = { ...request, provider, uid, browser: hash(cookie) };
    await this.#pending.put(hash(request.state), login, { expiresAt: this.#now() + pendingMs });
    return cookie;
  }

  /** The login of this state, if it was at this provider and with this browser. Each state is valid once. */
  async consume(
    state: string,
    provider: string,
    cookie: string | undefined,
  ): Promise<PendingLogin | undefined> {
    const login = await this.#pending.take(hash(state));
    return login?.provider === provider && cookie !== undefined && login.browser === hash(cookie)
      ? login
      : undefined;
  }

  /** Keeps what a provider has stated until the sign-in continues. */
  async complete(uid: string, login: UpstreamLogin): Promise<void> {
    await this.#results.put(uid, login, { expiresAt: this.#now() + resultMs });
  }

  /** What a provider has stated for this sign-in; once. */
  async takeResult(uid: string): Promise<UpstreamLogin | undefined> {
    return this.#results.take(uid);
  }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
