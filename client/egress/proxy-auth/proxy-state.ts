import { Semaphore } from '../../../base/semaphore.ts';
import type { ClientError } from '../../errors/failure.ts';
import type { ProxyCredentials } from './credentials.ts';
import type { NonceMemory } from './digest.ts';

/** The authentication schemes, the strongest first. */
export const schemeOrder = ['negotiate', 'ntlm', 'digest', 'basic', 'negotiate-ntlm'] as const;
export type SchemeName = (typeof schemeOrder)[number];

/** Proxies with NTLM answer 407 to too many sign-ins at once. */
const maxAtOnce = 4;

/** What this process knows of a proxy that requires a sign-in. */
export class ProxyMemory {
  /** The scheme of the last successful sign-in; the next one starts with it, without waiting for a challenge. */
  worked: SchemeName | undefined;
  /** Whether a stronger scheme than Basic has succeeded: a later challenge for the password itself is not trusted. */
  knowsBetter = false;
  /** The credentials from the keychain. */
  kept: Promise<ProxyCredentials | undefined> | undefined;
  /** The credentials from a prompt. */
  typed: Promise<ProxyCredentials | undefined> | undefined;
  /** The command that stores the typed password. */
  storingCommand: string | undefined;
  hasPrintedHint = false;
  /** Set once the proxy has refused the credentials: they are not tried again, since a few failures can lock an account. */
  refusal: ClientError | undefined;
  readonly nonces: NonceMemory = {};
  /** One at a time until one has succeeded, so that a wrong password is tried once and not once for each tunnel. */
  readonly signIns = new Semaphore(() => (this.worked === undefined ? 1 : maxAtOnce));
}

const memories = new Map<string, ProxyMemory>();

/** The memory of this process for a proxy and a user there. */
export function memoryOf(proxy: string, user: string | undefined): ProxyMemory {
  const key = JSON.stringify([proxy, user]);
  const known = memories.get(key) ?? new ProxyMemory();
  memories.set(key, known);
  return known;
}
