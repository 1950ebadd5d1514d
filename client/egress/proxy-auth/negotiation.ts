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

/** The input of a sign-in. */
export interface NegotiationParts {
  /** The proxy's name in messages. */
  readonly name: string;
  readonly request: CredentialRequest;
  readonly memory: ProxyMemory;
  /** From the URL or the environment. */
  readonly given?: ProxyCredentials;
  /** Finds credentials from any source, including keychain and prompt; called when a scheme needs them. */
  readonly find: (wanted: Wanted) => Promise<ProxyCredentials | undefined>;
  /** Drops refused credentials; resolves to whether `find` has others now. */
  readonly drop: (refused: ProxyCredentials) => Promise<boolean>;
  /** Passwords refused in other processes; absent: unknown. */
  readonly refusals?: Refusals;
  readonly loadKerberos: LoadKerberos;
  readonly platform: NodeJS.Platform;
}

/** Requirements for credentials. */
export interface Wanted {
  /** Whether a name like `DOMAIN\alice` may be needed. */
  readonly domain: boolean;
  /** Whether a prompt is worthwhile. */
  readonly mayPrompt: boolean;
}

/** The response to a challenge, and whether it is valid only on the connection of the 407. */
export interface ProxyResponse {
  readonly authorization: string;
  readonly continues: boolean;
}

/** One sign-in at a proxy: tries the schemes that it offers, the strongest first, until one succeeds or all have failed. */
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

  /** The authorization to send before a challenge, by the scheme of the last success; undefined: wait for a challenge. */
  async preemptive(): Promise<string | undefined> {
    const { worked } = this.#parts.memory;
    return worked === undefined ? undefined : this.#begin(worked);
  }

  /** The response to a 407 with these challenges. Throws `PROXY_SIGN_IN`, `PROXY_REFUSED`. */
  async reply(offers: readonly ProxyChallenge[]): Promise<ProxyResponse> {
    // A step of a handshake can come without the other challenges.
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

  /** Whether another sign-in can succeed after this one was refused. */
  get mayTryAgain(): boolean {
    return this.#mayTryAgain;
  }

  /** Records that the proxy accepted the sign-in. */
  recordSuccess(): void {
    if (this.#current === undefined) return;
    const { memory } = this.#parts;
    memory.worked = this.#current.name;
    memory.knowsBetter ||= memory.worked !== 'basic';
  }

  /** The error for a proxy that keeps sending challenges. */
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
    // NTLM as Negotiate: only where it is not offered under its own name.
    if (name === 'negotiate-ntlm' && of('ntlm', this.#offers).length > 0) return false;
    return of(name, this.#offers).length > 0;
  }

  #wantsDomain(): boolean {
    return this.#isOffered('ntlm') || this.#isOffered('negotiate');
  }

  async #refused(name: SchemeName): Promise<ClientError> {
    const { memory, drop } = this.#parts;
    const credentials = await this.#find();
    // Credentials that were accepted before are tried again: proxies refuse too many sign-ins at once in the same way.
    const wasGood = memory.worked !== undefined;
    memory.worked = undefined;
    this.#mayTryAgain = wasGood || (credentials !== undefined && (await drop(credentials)));
    const what = `did not accept the user name and password from ${credentials?.source ?? 'here'}`;
    const failure = new ClientError(
      'PROXY_SIGN_IN',
      `${this.#parts.name} ${what} (${schemeNames(of(name, this.#offers))[0] ?? name}); they are not tried again, so that the account is not locked`,
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
      `${name} refused the password from ${credentials.source} ${minutes} min ago; it is not tried again yet, so that the account is not locked`,
      { hint: this.#parts.platform === 'win32' ? `del "${refusals!.path}"` : `rm '${refusals!.path}'` },
    );
  }

  async #failure(): Promise<ClientError> {
    const { name } = this.#parts;
    const names = schemeNames(this.#offers);
    if (names.length === 0)
      return new ClientError('PROXY_SIGN_IN', `${name} requires a sign-in, but offers no scheme for it`, {
        hint: '',
      });
    const start = `${name} requires a sign-in and offers ${names.join(', ')}`;
    if (!schemeOrder.some((each) => this.#isOffered(each)))
      return new ClientError('PROXY_SIGN_IN', `${start}: none is supported`, { hint: '' });
    const isWithout = (await this.#find()) === undefined;
    // Where only Kerberos is offered, a ticket is more likely to work.
    const takesPassword = names.some((each) => ['NTLM', 'Digest', 'Basic'].includes(each));
    const unavailable = [
      ...this.#troubles.map(({ message }) => message),
      ...(isWithout && takesPassword ? ['no user name and password are set for it'] : []),
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

/** Whether the next process will use the same credentials; typed ones are always tried. */
function isKept({ source }: ProxyCredentials): boolean {
  return source !== 'the prompt';
}

/** The challenges of one scheme. */
function of(name: SchemeName, offers: readonly ProxyChallenge[]): readonly ProxyChallenge[] {
  const word = name === 'negotiate-ntlm' ? 'negotiate' : name;
  return offers.filter(({ scheme }) => scheme === word);
}
