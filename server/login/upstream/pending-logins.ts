import { createHash, randomBytes } from 'node:crypto';
import type { Store } from '../../store/store.ts';
import type { ProviderLogin, AuthorizationRequestState } from './identity-provider.ts';

/** Somebody who is at a provider now, and will come back. */
interface PendingLogin extends AuthorizationRequestState {
  readonly provider: string;
  /** The sign-in that they left for; the only place they can come back to. */
  readonly uid: string;
  /** The hash of the cookie of the browser that left. */
  readonly browser: string;
}

const awayMs = 900_000;
const backMs = 120_000;

/** Remembers who has left for a provider, once each, and what the provider said when they came back. */
export class PendingLogins {
  readonly #store: Store;
  readonly #now: () => number;

  constructor(store: Store, now: () => number = Date.now) {
    this.#store = store;
    this.#now = now;
  }

  /** Resolves to the cookie that ties the answer to this browser. */
  async start(departure: AuthorizationRequestState, provider: string, uid: string): Promise<string> {
    const cookie = randomBytes(32).toString('base64url');
    const away: PendingLogin = { ...departure, provider, uid, browser: hash(cookie) };
    const expiry = { expiresAt: this.#now() + awayMs };
    await this.#store.put('oauth', `away:${hash(departure.state)}`, away, expiry);
    return cookie;
  }

  /** Who left with this state, if it was to this provider and with this browser. Each state is good for one return. */
  async consume(state: string, provider: string, cookie: string | undefined): Promise<PendingLogin | undefined> {
    const away = (await this.#store.take('oauth', `away:${hash(state)}`)) as PendingLogin | undefined;
    return away?.provider === provider && cookie !== undefined && away.browser === hash(cookie)
      ? away
      : undefined;
  }

  /** Keeps what a provider said until the sign-in goes on. */
  async complete(uid: string, arrival: ProviderLogin): Promise<void> {
    await this.#store.put('oauth', `back:${uid}`, arrival, { expiresAt: this.#now() + backMs });
  }

  /** What a provider said for this sign-in; once. */
  async takeResult(uid: string): Promise<ProviderLogin | undefined> {
    return (await this.#store.take('oauth', `back:${uid}`)) as ProviderLogin | undefined;
  }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
