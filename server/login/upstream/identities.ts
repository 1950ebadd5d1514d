import type { Store } from '../../store/store.ts';
import { findAccount } from '../accounts/accounts.ts';

/** Who somebody is, as far as the gateway has to know. */
export interface UpstreamIdentity {
  readonly subject: string;
  readonly groups: readonly string[];
  /** The identity provider that said so; absent for accounts of the gateway. */
  readonly provider?: string;
}

/** Everybody who may have signed in: accounts of the gateway, and people whom a provider has named. */
export class Identities {
  readonly #store: Store;
  readonly #accounts: () => boolean;

  /** `accounts`: whether the gateway's own accounts may sign in. */
  constructor(store: Store, accounts: () => boolean) {
    this.#store = store;
    this.#accounts = accounts;
  }

  /** Who it is now: accounts as they stand, others as their provider last said. Undefined: nobody who may sign in. */
  async find(subject: string): Promise<UpstreamIdentity | undefined> {
    const kept = (await this.#store.get('oauth', keyOf(subject))) as UpstreamIdentity | undefined;
    return kept ?? (this.#accounts() ? findAccount(this.#store, subject) : undefined);
  }

  /**
   * Keeps what a provider has said. Resolves to whether it could: a name that an account of the gateway has is not a
   * provider's to give.
   */
  async keep(identity: UpstreamIdentity, expiresAt: number): Promise<boolean> {
    if (this.#accounts() && (await findAccount(this.#store, identity.subject))) return false;
    await this.#store.put('oauth', keyOf(identity.subject), identity, { expiresAt });
    return true;
  }
}

function keyOf(subject: string): string {
  return `identity:${subject}`;
}
