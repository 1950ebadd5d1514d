import type { Store } from '../../store/store.ts';
import type { Identities } from './identities.ts';
import { ProviderRefusal } from './identity-provider.ts';
import type { ProviderLogin, IdentityProvider } from './identity-provider.ts';
import type { Origin, SignIns } from '../sign-ins.ts';

export interface RevalidatorParts {
  readonly store: Store;
  readonly identities: Pick<Identities, 'keep'>;
  readonly signIns: Pick<SignIns, 'endAll'>;
  /** As the configuration has them now. */
  readonly providers: () => readonly IdentityProvider[];
  /** Told when a provider could not be asked. */
  readonly onError: (error: unknown) => void;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** What it takes to ask a provider about somebody who is not there. */
interface Kept {
  readonly origin: Origin;
  readonly refreshToken: string;
  readonly until: number;
  readonly askedAt: number;
  /** Somebody asks now: a refresh token that is used twice ends the session at many providers. */
  readonly busyUntil: number;
}

/** Longer than an answer may take, with everything that has to be fetched for it. */
const busyMs = 60_000;

/** Asks providers again, while people are signed in, whether they still may be and what groups they have (`recheck`). */
export class Revalidator {
  readonly #parts: RevalidatorParts;

  constructor(parts: RevalidatorParts) {
    this.#parts = parts;
  }

  /** Keeps what the provider of an arrival can be asked with. */
  async keep({ identity, origin, refreshToken }: ProviderLogin, until: number): Promise<void> {
    const key = keyOf(identity.subject);
    if (refreshToken === undefined) return this.#parts.store.delete('oauth', key);
    const kept: Kept = { origin, refreshToken, until, askedAt: this.#now(), busyUntil: 0 };
    await this.#parts.store.put('oauth', key, kept, { expiresAt: until });
  }

  /**
   * Whether somebody may go on. Asks their provider when that was last done more than `maxAgeMs` ago, and keeps what it
   * says. A provider that refuses ends every sign-in of theirs; one that is down changes nothing.
   */
  async isStillAllowed(subject: string, maxAgeMs: number): Promise<boolean> {
    const kept = await this.#claim(subject, maxAgeMs);
    if (!kept) return true;
    const provider = this.#parts.providers().find(({ config }) => config.name === kept.origin.provider);
    if (!provider?.config.recheck) return true;
    try {
      const arrival = await provider.recheck(kept.refreshToken, kept.origin);
      if (arrival.identity.subject !== subject)
        throw new ProviderRefusal('provider_refused', `${provider.config.name} speaks of somebody else`);
      await this.#parts.identities.keep(arrival.identity, kept.until);
      await this.keep(arrival, kept.until);
      return true;
    } catch (error) {
      if (!(error instanceof ProviderRefusal) || error.code === 'provider_down') {
        this.#parts.onError(error);
        await this.#free(subject);
        return true;
      }
      await this.#parts.store.delete('oauth', keyOf(subject));
      await this.#parts.signIns.endAll(subject, `${provider.config.name} no longer lets them in`);
      return false;
    }
  }

  /** What to ask with, for one caller at a time. */
  async #claim(subject: string, maxAgeMs: number): Promise<Kept | undefined> {
    const { store } = this.#parts;
    const key = keyOf(subject);
    // Most people have nothing kept, and a look costs no write.
    if ((await store.get('oauth', key)) === undefined) return undefined;
    const now = this.#now();
    let mine: Kept | undefined;
    await store.update('oauth', key, (value) => {
      const kept = value as Kept | undefined;
      const isDue = kept && kept.busyUntil <= now && kept.askedAt + maxAgeMs <= now;
      mine = isDue ? kept : undefined;
      return isDue ? { ...kept, busyUntil: now + busyMs } : kept;
    });
    return mine;
  }

  async #free(subject: string): Promise<void> {
    await this.#parts.store.update('oauth', keyOf(subject), freed);
  }

  #now(): number {
    return (this.#parts.now ?? Date.now)();
  }
}

function freed(kept: unknown): unknown {
  return kept === undefined ? undefined : { ...(kept as Kept), busyUntil: 0 };
}

function keyOf(subject: string): string {
  return `recheck:${subject}`;
}
