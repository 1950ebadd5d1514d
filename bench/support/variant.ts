import type { Writable } from 'node:stream';

/** One connection to the target. */
export interface Flow {
  /** What is written into it arrives at the target. */
  readonly stream: Writable;
  /** The processes that are there for this connection, at the client's end. */
  readonly clients: Readonly<Record<string, number>>;
  readonly close: () => Promise<void>;
}

/** One path to the target that is measured: direct, a rival, or one of our entries. */
export interface Variant {
  readonly what: string;
  readonly isOurs: boolean;
  /** It is encrypted, and the client at its end is a program of its own; else one process passes bytes on. */
  readonly isWholePath: boolean;
  /** The processes in it, with their children. */
  readonly servers: Readonly<Record<string, number>>;
  /** Connects; `take` is called with the number of bytes that came from the target. */
  readonly open: (take: (bytes: number) => void) => Promise<Flow>;
  readonly stop: () => Promise<void>;
}
