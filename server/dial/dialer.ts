import type { Socket } from 'node:net';
import type { Grant } from '../policy/policy.ts';

export interface Dialer {
  /**
   * Connects to the granted address; a name is resolved, each address checked, and exactly a checked one dialled.
   * The caller owns the socket: half-open allowed, no delay, with keep-alive.
   * Throws `ADDRESS_DENIED`, `NAME_NOT_FOUND`, `NAME_FAILED`, `NAME_TIMEOUT`, `DIAL_REFUSED`, `DIAL_TIMEOUT`,
   * `DIAL_UNREACHABLE`, `DIAL_EXHAUSTED`; the reason of a signal that is aborted.
   */
  dial(grant: Grant, signals: readonly AbortSignal[]): Promise<Socket>;
}
