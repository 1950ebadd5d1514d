import { z } from 'zod';
import type { Store, Table } from '../../store/store.ts';
import { findAccount } from '../accounts/accounts.ts';

export const upstreamIdentity = z.object({
  subject: z.string(),
  groups: z.array(z.string()).readonly(),
  /** The identity provider that vouches for it; absent for accounts of the gateway. */
  provider: z.string().exactOptional(),
});
/** The name and groups of a person: all that the gateway needs to know. */
export type UpstreamIdentity = Readonly<z.output<typeof upstreamIdentity>>;

/** The people who can have signed in: accounts of the gateway, and people of identity providers. */
export class Identities {
  readonly #store: Store;
  readonly #table: Table<UpstreamIdentity>;
  readonly #accounts: () => boolean;

  /** `accounts`: whether the gateway's own accounts are allowed to sign in. */
  constructor(store: Store, accounts: () => boolean) {
    this.#store = store;
    this.#table = store.table('upstreamIdentity', upstreamIdentity);
    this.#accounts = accounts;
  }

  /** The identity as it is now: an account as it stands, others as their provider last stated. Undefined: not allowed to sign in. */
  async find(subject: string): Promise<UpstreamIdentity | undefined> {
    const kept = await this.#table.get(subject);
    return kept ?? (this.#accounts() ? findAccount(this.#store, subject) : undefined);
  }

  /**
   * Keeps the statement of a provider. Resolves to whether that was possible: a provider cannot assign a name that an
   * account of the gateway has.
   */
  async keep(identity: UpstreamIdentity, expiresAt: number): Promise<boolean> {
    if (this.#accounts() && (await findAccount(this.#store, identity.subject))) return false;
    await this.#table.put(identity.subject, identity, { expiresAt });
    return true;
  }
}
