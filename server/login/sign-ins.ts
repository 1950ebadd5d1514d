import type { Revocations } from '../auth/revocations.ts';
import type { Store } from '../store/store.ts';
import { forgetGrant } from './authorization-server/store-adapter.ts';

/** One sign-in of a person, from when they proved who they are until it expires or is ended. */
export interface SignIn {
  /** Also the id of its grant, and the claim `sid` of its tokens. */
  readonly id: string;
  readonly subject: string;
  /** A browser that may see pages; a program with a browser on the same machine; a program on another machine. */
  readonly kind: 'browser' | 'program' | 'device';
  /** Milliseconds since 1970, as are all times here. */
  readonly startedAt: number;
  /** When the person showed who they are: a program has it from the browser's sign-in that it was made with. */
  readonly provenAt: number;
  readonly expiresAt: number;
  readonly remoteAddress: string;
  /** What the program or the browser calls itself. */
  readonly agent?: string;
  /** The browser's session, for `browser`. */
  readonly sessionUid?: string;
  /** Absent for accounts of the gateway. */
  readonly origin?: Origin;
}

/** What an identity provider calls whom it has signed in. */
export interface Origin {
  readonly provider: string;
  readonly subject: string;
  /** Its own name for its session, where it has one. */
  readonly session?: string;
}

export interface SignInsOptions {
  /** `iss` of the tokens of these sign-ins. */
  readonly issuer: string;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Remembers who is signed in where, and ends it. */
export class SignIns {
  readonly #store: Store;
  readonly #revocations: Revocations;
  readonly #issuer: string;
  readonly #now: () => number;

  constructor(store: Store, revocations: Revocations, { issuer, now = Date.now }: SignInsOptions) {
    this.#store = store;
    this.#issuer = issuer;
    this.#revocations = revocations;
    this.#now = now;
  }

  async begin(signIn: SignIn): Promise<void> {
    const expiry = { expiresAt: signIn.expiresAt };
    await this.#store.put('oauth', `signIn:${signIn.id}`, signIn, expiry);
    await this.#index(subjectKey(signIn.subject), signIn);
    const { origin } = signIn;
    if (!origin) return;
    await this.#index(originKey(origin.provider, 'subject', origin.subject), signIn);
    if (origin.session !== undefined)
      await this.#index(originKey(origin.provider, 'session', origin.session), signIn);
  }

  /** The sign-in, if it has neither expired nor been ended. */
  async find(id: string): Promise<SignIn | undefined> {
    const signIn = (await this.#store.get('oauth', `signIn:${id}`)) as SignIn | undefined;
    return signIn && !this.#isRevoked(signIn) ? signIn : undefined;
  }

  /** All sign-ins of a subject that are good now, the latest first. */
  async of(subject: string): Promise<readonly SignIn[]> {
    const found = await this.#all(subjectKey(subject));
    return found.toSorted((one, other) => other.startedAt - one.startedAt);
  }

  /** Ends one: its tokens, its grant, its browser session, and every tunnel opened with it. */
  async end(id: string, reason: string): Promise<void> {
    await this.#store.delete('oauth', `Grant:${id}`);
    await this.ended(id, reason);
  }

  /** Ends all of a subject. */
  async endAll(subject: string, reason: string): Promise<void> {
    for (const { id } of await this.of(subject)) await this.end(id, reason);
  }

  /** Ends those that come from a provider's session, or else all of a person there. Resolves to how many there were. */
  async endFrom(provider: string, about: Partial<Origin>, reason: string): Promise<number> {
    const { session, subject } = about;
    const key =
      session === undefined
        ? originKey(provider, 'subject', subject ?? '')
        : originKey(provider, 'session', session);
    const found = await this.#all(key);
    const meant = found.filter(({ origin }) => subject === undefined || origin?.subject === subject);
    for (const { id } of meant) await this.end(id, reason);
    return meant.length;
  }

  /** To be called when the grant of a sign-in is gone: ends what hangs on it. */
  async ended(id: string, reason: string): Promise<void> {
    const signIn = (await this.#store.take('oauth', `signIn:${id}`)) as SignIn | undefined;
    await forgetGrant(this.#store, id);
    if (signIn?.sessionUid !== undefined) await this.#forgetSession(signIn.sessionUid);
    // Also when the record is gone already: to end twice is no harm, to miss one would be.
    await this.#revocations.revoke({ kind: 'signIn', signInId: id }, reason);
  }

  #isRevoked({ id, subject, provenAt }: SignIn): boolean {
    const issuedAt = new Date(provenAt);
    return this.#revocations.isRevoked({ issuer: this.#issuer, subject, signInId: id, issuedAt });
  }

  async #forgetSession(uid: string): Promise<void> {
    const session = await this.#store.take('oauth', `Session.uid:${uid}`);
    if (typeof session === 'string') await this.#store.delete('oauth', `Session:${session}`);
  }

  async #index(key: string, { id, expiresAt }: SignIn): Promise<void> {
    const now = this.#now();
    let latest = expiresAt;
    const add = (value: unknown): Index => {
      const good = Object.entries((value ?? {}) as Index).filter(([, until]) => until > now);
      latest = Math.max(expiresAt, ...good.map(([, until]) => until));
      return Object.fromEntries([...good, [id, expiresAt]]);
    };
    await this.#store.update('oauth', key, add);
    // Its own life is that of the longest.
    await this.#store.update('oauth', key, (value) => value, { expiresAt: latest });
  }

  async #all(key: string): Promise<readonly SignIn[]> {
    const index = ((await this.#store.get('oauth', key)) ?? {}) as Index;
    const found = await Promise.all(Object.keys(index).map((id) => this.find(id)));
    return found.filter((signIn) => signIn !== undefined);
  }
}

/** Ids of sign-ins, and when they expire. */
type Index = Readonly<Record<string, number>>;

function subjectKey(subject: string): string {
  return `signInsOf:${subject}`;
}

function originKey(provider: string, what: 'subject' | 'session', name: string): string {
  return `signInsFrom:${JSON.stringify([provider, what, name])}`;
}
