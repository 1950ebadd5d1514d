import type { TunnelError } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';

/** What a dialogue wants next: some bytes of the program, or to say some. */
export type HandshakeStep =
  | { readonly kind: 'bytes'; readonly count: number }
  | { readonly kind: 'until'; readonly mark: string; readonly maxBytes: number }
  | { readonly kind: 'say'; readonly bytes: Buffer };

/** One protocol, from its first byte to what is asked for. Pure; throws `Refusal`. */
export type Handshake<Result = ConnectRequest> = Generator<HandshakeStep, Result, Buffer>;

/** What a program asks for, and how it is told what has become of it. */
export interface ConnectRequest {
  /** The protocol, for people. */
  readonly protocol: string;
  readonly target: Target;
  /** Says that the tunnel is open. */
  readonly granted: Buffer;
  /** Says why there is none. */
  refused(error: TunnelError): Buffer;
}

/** The end of a dialogue that leads to no tunnel. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly error: TunnelError;
  /** What the program is told; absent: nothing. */
  readonly answer: Buffer | undefined;
  /** Whether it has tried a password, which it might have guessed. */
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

/** Everything up to `mark`, which is taken too. Undefined when it does not come within `most` bytes. */
export function* receiveUntil(mark: string, maxBytes: number): Handshake<Buffer | undefined> {
  const bytes = yield { kind: 'until', mark, maxBytes };
  return bytes.subarray(-mark.length).toString('latin1') === mark ? bytes : undefined;
}

export function* sendBytes(bytes: Buffer): Handshake<void> {
  yield { kind: 'say', bytes };
}

/** What a dialogue has come to with the bytes so far. */
export interface HandshakeTurn<Result> {
  readonly replies: readonly Buffer[];
  /** Set when it is over: its result, and the bytes that came after it. */
  readonly done?: { readonly result: Result; readonly rest: Buffer };
  /** Set when it is over without one. */
  readonly refusal?: Refusal;
}

/** Leads a dialogue with bytes as they come. */
export class HandshakeRun<Result> {
  readonly #dialogue: Handshake<Result>;
  #pending: Buffer = Buffer.alloc(0);
  #next: IteratorResult<HandshakeStep, Result>;

  constructor(handshake: Handshake<Result>) {
    this.#dialogue = handshake;
    this.#next = handshake.next();
  }

  /** Goes on with `chunk`. Not to be called any more once it is over. */
  push(chunk: Buffer): HandshakeTurn<Result> {
    this.#pending = Buffer.concat([this.#pending, chunk]);
    const replies: Buffer[] = [];
    try {
      while (this.#next.done !== true) {
        const bytes = this.#fulfil(this.#next.value, replies);
        if (bytes === undefined) return { replies };
        this.#next = this.#dialogue.next(bytes);
      }
    } catch (error) {
      if (error instanceof Refusal) return { replies, refusal: error };
      throw error;
    }
    return { replies, done: { result: this.#next.value, rest: this.#pending } };
  }

  /** What a want is answered with, or undefined while that has not come. */
  #fulfil(step: HandshakeStep, replies: Buffer[]): Buffer | undefined {
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

/** How many of the pending bytes a want takes, or undefined while there are too few. */
function lengthOf(step: Exclude<HandshakeStep, { kind: 'say' }>, pending: Buffer): number | undefined {
  if (step.kind === 'bytes') return pending.length >= step.count ? step.count : undefined;
  const at = pending.subarray(0, step.maxBytes).indexOf(step.mark, 0, 'latin1');
  if (at !== -1) return at + step.mark.length;
  return pending.length >= step.maxBytes ? step.maxBytes : undefined;
}
