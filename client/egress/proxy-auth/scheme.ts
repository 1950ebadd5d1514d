import type { Challenge } from './challenge.ts';
import type { Credentials } from './credentials.ts';

/** The request that has to be allowed. */
export interface CredentialRequest {
  /** The host of the proxy, without port. */
  readonly proxyHost: string;
  /** The target of the CONNECT, `host:port`. */
  readonly authority: string;
}

/**
 * What is said in one sign-in. Takes the challenges of the scheme in the newest 407, none to speak first, and gives the
 * value of `Proxy-Authorization`; undefined: what was said before has been refused. Throws `SchemeUnavailable` and `ClientError`.
 */
export interface AuthExchange {
  answer(challenges: readonly Challenge[]): Promise<string | undefined> | string | undefined;
  /** Whether the next answer is part of what was said on this connection, and means nothing on another. */
  readonly isInProgress: boolean;
  /** Whether the password, or what proves to know it, has been sent. */
  readonly hasSentCredential: boolean;
}

/** Why a scheme cannot be used here although it is offered; another one may do. */
export class SchemeUnavailable extends Error {
  /** What would make it usable, as a command to paste. */
  readonly hint: string | undefined;

  constructor(why: string, hint?: string, options?: ErrorOptions) {
    super(why, options);
    this.hint = hint;
  }
}

/** Begins a conversation that shows name and password. */
export type PasswordScheme = (credentials: Credentials, asking: CredentialRequest) => AuthExchange;
