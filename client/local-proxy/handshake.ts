import type { TunnelError } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';

/** The next step of a handshake: receive some bytes from the program, or send some. */
export type HandshakeStep =
  | { readonly kind: 'bytes'; readonly count: number }
  | { readonly kind: 'until'; readonly mark: string; readonly maxBytes: number }
  | { readonly kind: 'say'; readonly bytes: Buffer };

/** The exchange of one protocol, from its first byte to the request. Pure; throws `Refusal`. */
export type Handshake<Result = ConnectRequest> = Generator<HandshakeStep, Result, Buffer>;

/** A program's request, and the replies to it. */
export interface ConnectRequest {
  /** The protocol, for people. */
  readonly protocol: string;
  readonly target: Target;
  /** The reply when the tunnel is open. */
  readonly granted: Buffer;
  /** The reply when there is none. */
  refused(error: TunnelError): Buffer;
}

/** A handshake that ended without a request for a tunnel. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly error: TunnelError;
  /** The reply to the program; absent: none. */
  readonly answer: Buffer | undefined;
  /** Whether the program sent a wrong password, which may be a guess. */
  readonly isGuess: boolean;

  constructor(error: TunnelError, answer?: Buffer, { isGuess = false } = {}) {
    super(error.message);
    this.error = error;
    this.answer = answer;
    this.isGuess = isGuess;
  }
}

/** The next `count` bytes. */
export function* receive(count: number): Handshake<Buffer> {
  return yield { kind: 'bytes', count };
}

/** Everything up to and including `mark`. Undefined when it does not arrive within `maxBytes`. */
export function* receiveUntil(mark: string, maxBytes: number): Handshake<Buffer | undefined> {
  const bytes = yield { kind: 'until', mark, maxBytes };
  return bytes.subarray(-mark.length).toString('latin1') === mark ? bytes : undefined;
}

export function* sendBytes(bytes: Buffer): Handshake<void> {
  yield { kind: 'say', bytes };
}

/** The state of a handshake with the bytes so far. */
export interface HandshakeTurn<Result> {
  readonly replies: readonly Buffer[];
  /** Set when it has succeeded: its result, and the bytes after it. */
  readonly done?: { readonly result: Result; readonly rest: Buffer };
  /** Set when it has failed. */
  readonly refusal?: Refusal;
}

/** Runs a handshake with bytes as they arrive. */
export class HandshakeRun<Result> {
  readonly #dialogue: Handshake<Result>;
  #pending: Buffer = Buffer.alloc(0);
  #next: IteratorResult<HandshakeStep, Result>;

  constructor(handshake: Handshake<Result>) {
    this.#dialogue = handshake;
    this.#next = handshake.next();
  }

  /** Continues with `chunk`. Must not be called again once the handshake has ended. */
  push(chunk: Buffer): HandshakeTurn<Result> {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    const replies: Buffer[] = [];
    try {
      while (this.#next.done !== true) {
        const bytes = this.#perform(this.#next.value, replies);
        if (bytes === undefined) return { replies };
        this.#next = this.#dialogue.next(bytes);
      }
    } catch (error) {
      if (error instanceof Refusal) return { replies, refusal: error };
      throw error;
    }
    return { replies, done: { result: this.#next.value, rest: this.#pending } };
  }

  /** The result of a step, or undefined while its bytes have not arrived. */
  #perform(step: HandshakeStep, replies: Buffer[]): Buffer | undefined {
    if (step.kind === 'say') {
      replies.push(step.bytes);
      return Buffer.alloc(0);
    }
    const length = lengthOf(step, this.#pending);
    if (length === undefined) return undefined;
    const bytes = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return bytes;
  }
}

/** How many of the pending bytes a step consumes, or undefined while there are too few. */
function lengthOf(step: Exclude<HandshakeStep, { kind: 'say' }>, pending: Buffer): number | undefined {
  if (step.kind === 'bytes') return pending.length >= step.count ? step.count : undefined;
  const at = pending.subarray(0, step.maxBytes).indexOf(step.mark, 0, 'latin1');
  if (at !== -1) return at + step.mark.length;
  return pending.length >= step.maxBytes ? step.maxBytes : undefined;
}
