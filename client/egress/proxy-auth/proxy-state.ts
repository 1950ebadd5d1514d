import { Semaphore } from '../../../base/semaphore.ts';
import type { ClientError } from '../../errors/failure.ts';
import type { ProxyCredentials } from './credentials.ts';
import type { NonceMemory } from './digest.ts';

/** The ways to sign in, the strongest first. */
export const schemeOrder = ['negotiate', 'ntlm', 'digest', 'basic', 'negotiate-ntlm'] as const;
export type SchemeName = (typeof schemeOrder)[number];

/** Proxies that know NTLM answer 407 to too many sign-ins at once. */
const maxAtOnce = 4;

/** What this process knows of a proxy that wants a sign-in. */
export class ProxyMemory {
  /** How the last sign-in went well; the next one begins with it, without waiting to be asked. */
  worked: SchemeName | undefined;
  /** Whether something better than Basic has gone well: who then asks for the password itself is not believed. */
  knowsBetter = false;
  /** What the keychain has. */
  kept: Promise<ProxyCredentials | undefined> | undefined;
  /** What a person has typed. */
  typed: Promise<ProxyCredentials | undefined> | undefined;
  /** The command that keeps what was typed. */
  storingCommand: string | undefined;
  hasPrintedHint = false;
  /** Set once the proxy has refused them: they are not tried again, for an account may be locked after a few times. */
  refusal: ClientError | undefined;
  readonly nonces: NonceMemory = {};
  /** One at a time until one has gone well, so that a wrong password is tried once and not once for each tunnel. */
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
