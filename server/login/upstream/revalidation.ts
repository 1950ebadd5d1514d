import { z } from 'zod';
import type { Store, Table } from '../../store/store.ts';
import type { Identities } from './identities.ts';
import { ProviderRefusal } from './identity-provider.ts';
import type { ProviderLogin, IdentityProvider } from './identity-provider.ts';
import { originSchema } from '../sign-ins.ts';
import type { SignIns } from '../sign-ins.ts';

export interface RevalidatorParts {
  readonly store: Store;
  readonly identities: Pick<Identities, 'keep'>;
  readonly signIns: Pick<SignIns, 'endAll'>;
  /** As the configuration has them now. */
  readonly providers: () => readonly IdentityProvider[];
  /** Called when a provider could not be reached. */
  readonly onError: (error: unknown) => void;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** What it takes to ask a provider about a person who is not present. */
const upstreamRefresh = z.object({
  origin: originSchema,
  refreshToken: z.string(),
  until: z.number(),
  /** When the provider was last asked. */
  askedAt: z.number(),
  /** While a request is under way: a refresh token that is used twice ends the session at many providers. */
  busyUntil: z.number(),
});
type UpstreamRefresh = Readonly<z.output<typeof upstreamRefresh>>;

/** Longer than a response can take, with everything that has to be fetched for it. */
const busyMs = 60_000;

/** Asks providers again, while people are signed in, whether they are still allowed to be, and for their groups (`recheck`). */
export class Revalidator {
  readonly #parts: RevalidatorParts;
  readonly #table: Table<UpstreamRefresh>;

  constructor(parts: RevalidatorParts) {
    this.#parts = parts;
    this.#table = parts.store.table('upstreamRefresh', upstreamRefresh);
  }

  /** Keeps the refresh token of a login, with which its provider can be asked again. */
  async keep({ identity, origin, refreshToken }: ProviderLogin, until: number): Promise<void> {
    if (refreshToken === undefined) return this.#table.delete(identity.subject);
    const refresh = { origin, refreshToken, until, askedAt: this.#now(), busyUntil: 0 };
    await this.#table.put(identity.subject, refresh, { expiresAt: until });
  }

  /**
   * Whether a person is still allowed to be signed in. Asks their provider when that was last done more than `maxAgeMs`
   * ago, and keeps its statement. A provider that refuses ends every sign-in of theirs; one that is down changes nothing.
   */
  async isStillAllowed(subject: string, maxAgeMs: number): Promise<boolean> {
    const kept = await this.#claim(subject, maxAgeMs);
    if (!kept) return true;
    const provider = this.#parts.providers().find(({ config }) => config.name === kept.origin.provider);
    if (!provider?.config.recheck) return true;
    try {
      const login = await provider.recheck(kept.refreshToken, kept.origin);
      if (login.identity.subject !== subject)
        throw new ProviderRefusal('provider_refused', `${provider.config.name} answered for another person`);
      await this.#parts.identities.keep(login.identity, kept.until);
      await this.keep(login, kept.until);
      return true;
    } catch (error) {
      if (!(error instanceof ProviderRefusal) || error.code === 'provider_down') {
        this.#parts.onError(error);
        await this.#free(subject);
        return true;
      }
      await this.#table.delete(subject);
      await this.#parts.signIns.endAll(
        subject,
        `${provider.config.name} no longer allows this person to sign in`,
      );
      return false;
    }
  }

  /** The refresh token to ask with, for one caller at a time. */
  async #claim(subject: string, maxAgeMs: number): Promise<UpstreamRefresh | undefined> {
    // Most people have no row, and a read costs no write.
    if ((await this.#table.get(subject)) === undefined) return undefined;
    const now = this.#now();
    let mine: UpstreamRefresh | undefined;
    await this.#table.update(subject, (kept) => {
      const isDue = kept && kept.busyUntil <= now && kept.askedAt + maxAgeMs <= now;
      mine = isDue ? kept : undefined;
      return isDue ? { ...kept, busyUntil: now + busyMs } : kept;
    });
    return mine;
  }

  async #free(subject: string): Promise<void> {
    await this.#table.update(subject, (kept) => kept && { ...kept, busyUntil: 0 });
  }

  #now(): number {
    return (this.#parts.now ?? Date.now)();
  }
}
