import { ClientError } from '../../errors/failure.ts';
import { basic } from './basic.ts';
import { schemeNames } from './challenge.ts';
import type { ProxyChallenge } from './challenge.ts';
import type { ProxyCredentials } from './credentials.ts';
import { digest } from './digest.ts';
import type { LoadKerberos } from './kerberos-package.ts';
import { negotiate } from './negotiate.ts';
import { ntlm } from './ntlm.ts';
import { schemeOrder } from './proxy-state.ts';
import type { ProxyMemory, SchemeName } from './proxy-state.ts';
import type { Refusals } from './rejected-passwords.ts';
import { SchemeUnavailable } from './scheme.ts';
import type { CredentialRequest, AuthExchange } from './scheme.ts';

/** What a sign-in is made with. */
export interface NegotiationParts {
  /** What a message calls the proxy. */
  readonly name: string;
  readonly request: CredentialRequest;
  readonly memory: ProxyMemory;
  /** Those of the URL or the environment. */
  readonly given?: ProxyCredentials;
  /** All others too, those of a keychain or of a person; called when a scheme needs them. */
  readonly find: (wanted: Wanted) => Promise<ProxyCredentials | undefined>;
  /** Told of credentials that were refused: whether `find` has others now. */
  readonly drop: (refused: ProxyCredentials) => Promise<boolean>;
  /** What was refused in other processes; absent: nobody knows. */
  readonly refusals?: Refusals;
  readonly loadKerberos: LoadKerberos;
  readonly platform: NodeJS.Platform;
}

/** Which credentials are wanted. */
export interface Wanted {
  /** A name like `DOMAIN\alice` may be needed. */
  readonly domain: boolean;
  /** Whether it is worth asking a person. */
  readonly mayPrompt: boolean;
}

/** What to send, and whether that is only understood on the connection which the 407 came by. */
export interface ProxyResponse {
  readonly authorization: string;
  readonly continues: boolean;
}

/** One sign-in at a proxy: goes through the schemes that it offers, the strongest first, until one is through or all have failed. */
export class Negotiation {
  readonly #parts: NegotiationParts;
  readonly #left: SchemeName[] = [...schemeOrder];
  readonly #troubles: SchemeUnavailable[] = [];
  #mayTryAgain = false;
  #offers: readonly ProxyChallenge[] = [];
  #current: { readonly name: SchemeName; readonly startExchange: AuthExchange } | undefined;

  constructor(parts: NegotiationParts) {
    this.#parts = parts;
  }

  /** What to say before anybody has asked, since it went well the last time; undefined: wait to be asked. */
  async preemptive(): Promise<string | undefined> {
    const { worked } = this.#parts.memory;
    return worked === undefined ? undefined : this.#begin(worked);
  }

  /** What answers a 407 with these offers. Throws `PROXY_SIGN_IN`, `PROXY_REFUSED`. */
  async reply(offers: readonly ProxyChallenge[]): Promise<ProxyResponse> {
    // A leg of a handshake may come without the others.
    if (offers.length > 1 || this.#offers.length === 0) this.#offers = offers;
    const continued = await this.#continueExchange(offers);
    if (continued !== undefined) return continued;
    for (;;) {
      const name = this.#left.find((each) => this.#isOffered(each));
      if (name === undefined) throw await this.#failure();
      const authorization = await this.#begin(name);
      if (authorization !== undefined) return { authorization, continues: false };
    }
  }

  /** Whether another sign-in could go better, after this one has been refused. */
  get mayTryAgain(): boolean {
    return this.#mayTryAgain;
  }

  /** That the proxy has let us through. */
  succeeded(): void {
    if (this.#current === undefined) return;
    const { memory } = this.#parts;
    memory.worked = this.#current.name;
    memory.knowsBetter ||= memory.worked !== 'basic';
  }

  /** That the proxy asks again and again. */
  tooManyChallenges(): ClientError {
    return new ClientError('PROXY_SIGN_IN', `${this.#parts.name} keeps asking for a sign-in`, { hint: '' });
  }

  async #continueExchange(offers: readonly ProxyChallenge[]): Promise<ProxyResponse | undefined> {
    if (this.#current === undefined) return undefined;
    const { name, startExchange: exchange } = this.#current;
    const { isInProgress: continues } = exchange;
    const authorization = await this.#answerChallenges(exchange, of(name, offers));
    if (authorization !== undefined) return { authorization, continues };
    this.#current = undefined;
    if (exchange.hasSentCredential) throw await this.#refused(name);
    return undefined;
  }

  async #begin(name: SchemeName): Promise<string | undefined> {
    this.#left.splice(this.#left.indexOf(name), 1);
    const exchange = await this.#exchange(name);
    if (exchange === undefined) return undefined;
    this.#current = { name, startExchange: exchange };
    const authorization = await this.#answerChallenges(exchange, of(name, this.#offers));
    if (authorization === undefined) this.#current = undefined;
    return authorization;
  }

  async #exchange(name: SchemeName): Promise<AuthExchange | undefined> {
    const { request, memory, loadKerberos: load, platform, given } = this.#parts;
    if (name === 'negotiate')
      return negotiate(request, { load, platform, ...(given && { credentials: given }) });
    const credentials = await this.#find(name !== 'negotiate-ntlm');
    if (memory.refusal !== undefined) throw memory.refusal;
    if (credentials === undefined) return undefined;
    this.#assertNotRefusedLately(credentials);
    if (name === 'digest') return digest(credentials, request, memory.nonces);
    if (name === 'basic') return basic(credentials);
    return ntlm(credentials, name === 'ntlm' ? 'NTLM' : 'Negotiate');
  }

  async #answerChallenges(
    exchange: AuthExchange,
    offers: readonly ProxyChallenge[],
  ): Promise<string | undefined> {
    try {
      return await exchange.answer(offers);
    } catch (error) {
      if (!(error instanceof SchemeUnavailable)) throw error;
      this.#troubles.push(error);
      return undefined;
    }
  }

  #find(mayPrompt = false): Promise<ProxyCredentials | undefined> {
    return this.#parts.find({ domain: this.#wantsDomain(), mayPrompt });
  }

  #isOffered(name: SchemeName): boolean {
    if (name === 'basic' && this.#parts.memory.knowsBetter) return false;
    // NTLM under another name: only where it is not offered under its own.
    if (name === 'negotiate-ntlm' && of('ntlm', this.#offers).length > 0) return false;
    return of(name, this.#offers).length > 0;
  }

  #wantsDomain(): boolean {
    return this.#isOffered('ntlm') || this.#isOffered('negotiate');
  }

  async #refused(name: SchemeName): Promise<ClientError> {
    const { memory, drop } = this.#parts;
    const credentials = await this.#find();
    // What was good a moment ago deserves another try: proxies refuse too many sign-ins at once in the same words.
    const wasGood = memory.worked !== undefined;
    memory.worked = undefined;
    this.#mayTryAgain = wasGood || (credentials !== undefined && (await drop(credentials)));
    const what = `did not accept the user name and password from ${credentials?.source ?? 'here'}`;
    const failure = new ClientError(
      'PROXY_SIGN_IN',
      `${this.#parts.name} ${what} (${schemeNames(of(name, this.#offers))[0] ?? name}); they are not tried again, for accounts get locked`,
      { hint: this.#hintToSet(credentials) },
    );
    if (!this.#mayTryAgain) memory.refusal = failure;
    if (!this.#mayTryAgain && credentials && isKept(credentials))
      this.#parts.refusals?.keep(this.#parts.name, credentials);
    return failure;
  }

  #assertNotRefusedLately(credentials: ProxyCredentials): void {
    const { name, refusals } = this.#parts;
    const age = isKept(credentials) ? refusals?.ageOf(name, credentials) : undefined;
    if (age === undefined) return;
    const minutes = Math.max(1, Math.round(age / 60_000));
    throw new ClientError(
      'PROXY_SIGN_IN',
      `${name} refused the password from ${credentials.source} ${minutes} min ago; it is not tried again yet, for accounts get locked`,
      { hint: this.#parts.platform === 'win32' ? `del "${refusals!.path}"` : `rm '${refusals!.path}'` },
    );
  }

  async #failure(): Promise<ClientError> {
    const { name } = this.#parts;
    const names = schemeNames(this.#offers);
    if (names.length === 0)
      return new ClientError('PROXY_SIGN_IN', `${name} wants a sign-in and does not say how`, { hint: '' });
    const start = `${name} wants a sign-in and offers ${names.join(', ')}`;
    if (!schemeOrder.some((each) => this.#isOffered(each)))
      return new ClientError('PROXY_SIGN_IN', `${start}: nothing that is known here`, { hint: '' });
    const isWithout = (await this.#find()) === undefined;
    // Where only Kerberos is spoken of, a ticket is the surer way.
    const takesPassword = names.some((each) => ['NTLM', 'Digest', 'Basic'].includes(each));
    const unavailable = [
      ...this.#troubles.map(({ message }) => message),
      ...(isWithout && takesPassword ? ['no user name and password are known for it'] : []),
    ];
    const forKerberos = this.#troubles.find(({ hint }) => hint !== undefined && hint !== '')?.hint ?? '';
    const hint = isWithout && takesPassword ? this.#hintToSet(undefined) : forKerberos;
    return new ClientError('PROXY_SIGN_IN', [start, unavailable.join('; ')].filter(Boolean).join(': '), {
      hint,
    });
  }

  #hintToSet(credentials: ProxyCredentials | undefined): string {
    const isPlain = !/[\\@]/.test(credentials?.user ?? '');
    const user = this.#wantsDomain() && isPlain ? String.raw`DOMAIN\USER` : 'USER';
    if (this.#parts.platform === 'win32')
      return `set "POSTERN_PROXY_USER=${user}" & set "POSTERN_PROXY_PASSWORD=PASSWORD"`;
    return `export POSTERN_PROXY_USER='${user}' POSTERN_PROXY_PASSWORD='PASSWORD'`;
  }
}

/** Whether the next process will have the same; what a person types is meant to be tried. */
function isKept({ source }: ProxyCredentials): boolean {
  return source !== 'the prompt';
}

/** The offers of one scheme. */
function of(name: SchemeName, offers: readonly ProxyChallenge[]): readonly ProxyChallenge[] {
  const word = name === 'negotiate-ntlm' ? 'negotiate' : name;
  return offers.filter(({ scheme }) => scheme === word);
}
