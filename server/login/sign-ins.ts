import { z } from 'zod';
import type { Revocations } from '../auth/revocations.ts';
import type { Store, Table } from '../store/store.ts';
import { forgetGrant, modelIndex, modelTable } from './authorization-server/store-adapter.ts';

export const originSchema = z.object({
  provider: z.string(),
  subject: z.string(),
  /** The provider's own id of its session, where it has one. */
  session: z.string().exactOptional(),
});
/** The names that an identity provider has for a person whom it has signed in. */
export type Origin = Readonly<z.output<typeof originSchema>>;

const signInSchema = z.object({
  /** Also the id of its grant, and the claim `sid` of its tokens. */
  id: z.string(),
  subject: z.string(),
  /** A browser that can see pages; a program with a browser on the same machine; a program on another machine. */
  kind: z.enum(['browser', 'program', 'device']),
  /** Milliseconds since 1970, as are all times here. */
  startedAt: z.number(),
  /** The time of the person's proof: a program inherits it from the browser's sign-in that it was made with. */
  provenAt: z.number(),
  expiresAt: z.number(),
  remoteAddress: z.string(),
  /** The name that the program or the browser gives itself. */
  agent: z.string().exactOptional(),
  /** The browser's session, for `browser`. */
  sessionUid: z.string().exactOptional(),
  /** Absent for accounts of the gateway. */
  origin: originSchema.exactOptional(),
});
/** One sign-in of a person, from the proof of their identity until it expires or is ended. */
export type SignIn = Readonly<z.output<typeof signInSchema>>;

export interface SignInsOptions {
  /** `iss` of the tokens of these sign-ins. */
  readonly issuer: string;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** The sign-ins of all people, and their ends. */
export class SignIns {
  readonly #store: Store;
  readonly #signIns: Table<SignIn>;
  readonly #ofSubject: Table<Index>;
  readonly #ofOrigin: Table<Index>;
  readonly #revocations: Revocations;
  readonly #issuer: string;
  readonly #now: () => number;

  constructor(store: Store, revocations: Revocations, { issuer, now = Date.now }: SignInsOptions) {
    this.#store = store;
    this.#signIns = store.table('signIn', signInSchema);
    this.#ofSubject = store.table('signInsOfSubject', indexSchema);
    this.#ofOrigin = store.table('signInsOfOrigin', indexSchema);
    this.#issuer = issuer;
    this.#revocations = revocations;
    this.#now = now;
  }

  async begin(signIn: SignIn): Promise<void> {
    const expiry = { expiresAt: signIn.expiresAt };
    await this.#signIns.put(signIn.id, signIn, expiry);
    await this.#index(this.#ofSubject, signIn.subject, signIn);
    const { origin } = signIn;
    if (!origin) return;
    await this.#index(this.#ofOrigin, originKey(origin.provider, 'subject', origin.subject), signIn);
    if (origin.session !== undefined)
      await this.#index(this.#ofOrigin, originKey(origin.provider, 'session', origin.session), signIn);
  }

  /** The sign-in, if it has neither expired nor been ended. */
  async find(id: string): Promise<SignIn | undefined> {
    const signIn = await this.#signIns.get(id);
    return signIn && !this.#isRevoked(signIn) ? signIn : undefined;
  }

  /** All valid sign-ins of a subject, the latest first. */
  async of(subject: string): Promise<readonly SignIn[]> {
    const found = await this.#all(this.#ofSubject, subject);
    return found.toSorted((one, other) => other.startedAt - one.startedAt);
  }

  /**
   * The time of a proof that is made now: later than every revocation of the subject, also when the clock was set back
   * since.
   */
  proofTime(subject: string): number {
    const until = this.#revocations.revokedUntil(this.#issuer, subject) ?? -Infinity;
    // A claim in seconds can lose a part of a millisecond.
    return Math.max(this.#now(), until + 2);
  }

  /** The latest time of a proof among all sign-ins of a subject, those that were ended included; -Infinity: there is none. */
  async latestProof(subject: string): Promise<number> {
    const ids = Object.keys((await this.#ofSubject.get(subject)) ?? {});
    const found = await Promise.all(ids.map((id) => this.#signIns.get(id)));
    return Math.max(...found.map((signIn) => signIn?.provenAt ?? -Infinity));
  }

  /** Ends one: its tokens, its grant, its browser session, and every tunnel opened with it. */
  async end(id: string, reason: string): Promise<void> {
    // First, so that it holds even when the store cannot be written now.
    const revoked = this.#revoke(id, reason);
    await modelTable(this.#store, 'Grant').delete(id);
    await this.#forget(id);
    await revoked;
  }

  /** Ends all of a subject. */
  async endAll(subject: string, reason: string): Promise<void> {
    await endEach(await this.of(subject), (id) => this.end(id, reason));
  }

  /** Ends those that come from a provider's session, or else all of a person there. Resolves to their number. */
  async endFrom(provider: string, about: Partial<Origin>, reason: string): Promise<number> {
    const { session, subject } = about;
    const key =
      session === undefined
        ? originKey(provider, 'subject', subject ?? '')
        : originKey(provider, 'session', session);
    const found = await this.#all(this.#ofOrigin, key);
    const matching = found.filter(({ origin }) => subject === undefined || origin?.subject === subject);
    await endEach(matching, (id) => this.end(id, reason));
    return matching.length;
  }

  /** To be called when the grant of a sign-in has been deleted: ends everything that depends on it. */
  async onEnded(id: string, reason: string): Promise<void> {
    const revoked = this.#revoke(id, reason);
    await this.#forget(id);
    await revoked;
  }

  /** Also when the record does not exist any more: to end it twice does no harm, to miss one would. */
  #revoke(id: string, reason: string): Promise<void> {
    const revoked = this.#revocations.revoke({ kind: 'signIn', signInId: id }, reason);
    // Awaited after the rest, which can fail before it.
    revoked.catch(() => {});
    return revoked;
  }

  async #forget(id: string): Promise<void> {
    const signIn = await this.#signIns.take(id);
    await forgetGrant(this.#store, id);
    if (signIn?.sessionUid !== undefined) await this.#forgetSession(signIn.sessionUid);
  }

  #isRevoked({ id, subject, provenAt }: SignIn): boolean {
    const issuedAt = new Date(provenAt);
    return this.#revocations.isRevoked({
      issuer: this.#issuer,
      subject,
      signInId: id,
      issuedAt,
      ownClock: true,
    });
  }

  async #forgetSession(uid: string): Promise<void> {
    const id = await modelIndex(this.#store, 'Session', 'uid').take(uid);
    if (id !== undefined) await modelTable(this.#store, 'Session').delete(id);
  }

  async #index(table: Table<Index>, key: string, { id, expiresAt }: SignIn): Promise<void> {
    const now = this.#now();
    let latest = expiresAt;
    const add = (index: Index = {}): Index => {
      const valid = Object.entries(index).filter(([, until]) => until > now);
      latest = Math.max(expiresAt, ...valid.map(([, until]) => until));
      return Object.fromEntries([...valid, [id, expiresAt]]);
    };
    await table.update(key, add);
    // The row lives as long as the sign-in that ends last.
    await table.update(key, (index) => index, { expiresAt: latest });
  }

  async #all(table: Table<Index>, key: string): Promise<readonly SignIn[]> {
    const index = (await table.get(key)) ?? {};
    const found = await Promise.all(Object.keys(index).map((id) => this.find(id)));
    return found.filter((signIn) => signIn !== undefined);
  }
}

/** Ends all of them at once: one that cannot be forgotten now must not keep the others. Rejects when all are over. */
async function endEach(signIns: readonly SignIn[], end: (id: string) => Promise<void>): Promise<void> {
  const ends = await Promise.allSettled(signIns.map(({ id }) => end(id)));
  const failed = ends.find((each) => each.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Ids of sign-ins, and when they expire. */
const indexSchema = z.record(z.string(), z.number());
type Index = Readonly<z.output<typeof indexSchema>>;

function originKey(provider: string, what: 'subject' | 'session', name: string): string {
  return JSON.stringify([provider, what, name]);
}
