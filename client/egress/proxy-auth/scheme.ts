import type { ProxyChallenge } from './challenge.ts';
import type { ProxyCredentials } from './credentials.ts';

/** The request to authenticate. */
export interface CredentialRequest {
  /** The host of the proxy, without port. */
  readonly proxyHost: string;
  /** The target of the CONNECT, `host:port`. */
  readonly authority: string;
}

/**
 * One authentication exchange. Takes the challenges of the scheme in the newest 407, none for a preemptive start, and
 * returns the value of `Proxy-Authorization`; undefined: the previous response was refused. Throws `SchemeUnavailable` and `ClientError`.
 */
export interface AuthExchange {
  answer(challenges: readonly ProxyChallenge[]): Promise<string | undefined> | string | undefined;
  /** Whether the next response belongs to an exchange on this connection, and is not valid on another. */
  readonly isInProgress: boolean;
  /** Whether the password, or a proof of it, has been sent. */
  readonly hasSentCredential: boolean;
}

/** The reason why an offered scheme cannot be used here; another one may work. */
export class SchemeUnavailable extends Error {
  /** A command to paste that would make it usable. */
  readonly hint: string | undefined;

  constructor(why: string, hint?: string, options?: ErrorOptions) {
    super(why, options);
    this.hint = hint;
  }
}

/** Starts an exchange with user name and password. */
export type PasswordScheme = (credentials: ProxyCredentials, asking: CredentialRequest) => AuthExchange;
