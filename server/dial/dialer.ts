import type { Duplex } from 'node:stream';
import type { Grant } from '../policy/policy.ts';

/** The byte stream to a target, however it was reached. A `net.Socket` is one. */
export interface TargetStream extends Duplex {
  /** Bytes received from the target so far. */
  readonly bytesRead: number;
  /** Bytes sent to the target so far. */
  readonly bytesWritten: number;
  /** The address that was connected to; undefined once the stream has closed. */
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
}

export interface Dialer {
  /**
   * Connects to the granted address; a name is resolved, each address checked, and exactly a checked one dialled.
   * `caller` names the person or service: slow names of one do not hold up those of others.
   * The caller owns the stream: half-open allowed, no delay, with keep-alive.
   * Rejects with `ADDRESS_DENIED`, `NAME_NOT_FOUND`, `NAME_FAILED`, `NAME_TIMEOUT`, `DIAL_REFUSED`, `DIAL_TIMEOUT`,
   * `DIAL_UNREACHABLE`, `DIAL_EXHAUSTED`, or the reason of a signal that aborts.
   */
  dial(grant: Grant, signals: readonly AbortSignal[], caller?: string): Promise<TargetStream>;
}
