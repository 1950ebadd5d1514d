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
  readonly #input = new Input();
  #next: IteratorResult<HandshakeStep, Result>;

  constructor(handshake: Handshake<Result>) {
    this.#dialogue = handshake;
    this.#next = handshake.next();
  }

  /** Continues with `chunk`. Must not be called again once the handshake has ended. */
  push(chunk: Buffer): HandshakeTurn<Result> {
    this.#input.append(chunk);
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
    return { replies, done: { result: this.#next.value, rest: this.#input.pending } };
  }

  /** The result of a step, or undefined while its bytes have not arrived. */
  #perform(step: HandshakeStep, replies: Buffer[]): Buffer | undefined {
    if (step.kind === 'say') {
      replies.push(step.bytes);
      return Buffer.alloc(0);
    }
    const length = this.#input.lengthOf(step);
    return length === undefined ? undefined : this.#input.take(length);
  }
}

/** What has arrived and was not consumed. However small the pieces are, no byte is copied or searched again and again. */
class Input {
  /** The pending bytes are `#start` to `#end` of it. */
  #memory: Buffer = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  /** No mark of the current step begins before this place. */
  #searched = 0;

  get pending(): Buffer {
    return this.#memory.subarray(this.#start, this.#end);
  }

  append(chunk: Buffer): void {
    if (this.#end + chunk.length > this.#memory.length) {
      const memory = Buffer.allocUnsafe(2 * (this.pending.length + chunk.length));
      const kept = this.pending.copy(memory);
      this.#searched -= this.#start;
      this.#memory = memory;
      this.#start = 0;
      this.#end = kept;
    }
    this.#end += chunk.copy(this.#memory, this.#end);
  }

  take(length: number): Buffer {
    const bytes = this.pending.subarray(0, length);
    this.#start += length;
    this.#searched = this.#start;
    return bytes;
  }

  /** How many of the pending bytes a step consumes, or undefined while there are too few. */
  lengthOf(step: Exclude<HandshakeStep, { kind: 'say' }>): number | undefined {
    const { length } = this.pending;
    if (step.kind === 'bytes') return length >= step.count ? step.count : undefined;
    const end = Math.min(this.#end, this.#start + step.maxBytes);
    const at = this.#memory.subarray(0, end).indexOf(step.mark, this.#searched, 'latin1');
    if (at !== -1) return at + step.mark.length - this.#start;
    this.#searched = Math.max(this.#start, end - step.mark.length + 1);
    return length >= step.maxBytes ? step.maxBytes : undefined;
  }
}
