import { Buffer } from 'node:buffer';
import { applyMask } from './mask.ts';

/** Receives the content of the frames, in order. */
export interface WebSocketDataFramesListener {
  /** Unmasked bytes of a binary message, of which `left` are still to come. They are a slice of what was pushed. */
  payload(bytes: Buffer, left: number): void;
  /** Bytes of all other frames, as they arrived. */
  other(bytes: Buffer): void;
}

export interface WebSocketDataFramesOptions {
  /** The longest message that is read here. */
  readonly maxBytes: number;
  /** Whether text messages are passed on like pings; otherwise they are the end of what is read here. */
  readonly passesText?: boolean;
}

const text = 0x81;
const binary = 0x82;
const ping = 0x89;
const pong = 0x8a;
const masked = 0x80;
const maxControlBytes = 125;
const maskBytes = 4;

/** Two bytes, a length of eight, and a mask. */
const maxHeadBytes = 14;

/** `passed`: inside a frame that is passed on; `over`: everything is. */
type State = 'head' | 'payload' | 'passed' | 'over';

/**
 * The fast path for what a client sends on a WebSocket (RFC 6455 section 5): binary messages of one frame that are not
 * empty and no longer than `maxBytes` are read here, byte for byte as they arrive. Pings, pongs, the empty message, and
 * text with `passesText`, are passed on as they are, and from the first frame that is none of these on, everything is. The
 * implementation that receives them alone decides which frames can follow which, and what is an error.
 */
export class WebSocketDataFrames {
  readonly #maxBytes: number;
  readonly #passesText: boolean;
  readonly #listener: WebSocketDataFramesListener;
  #state: State = 'head';
  /** The beginning of a head whose end has not arrived. */
  #head: Buffer | undefined;
  /** Bytes of this frame that have not arrived. */
  #left = 0;
  #mask = 0;

  constructor(
    { maxBytes, passesText = false }: WebSocketDataFramesOptions,
    listener: WebSocketDataFramesListener,
  ) {
    this.#maxBytes = maxBytes;
    this.#passesText = passesText;
    this.#listener = listener;
  }

  /** Reads what has arrived, and unmasks it in place. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state === 'over') return this.#listener.other(at === 0 ? chunk : chunk.subarray(at));
      if (this.#state === 'head') at = this.#readHead(chunk, at);
      else at = this.#readBody(chunk, at);
    }
  }

  #readBody(chunk: Buffer, at: number): number {
    const bytes = chunk.subarray(at, at + this.#left);
    this.#left -= bytes.length;
    if (this.#state === 'passed') this.#listener.other(bytes);
    else {
      this.#mask = applyMask(bytes, this.#mask);
      this.#listener.payload(bytes, this.#left);
    }
    if (this.#left === 0) this.#state = 'head';
    return at + bytes.length;
  }

  /** Returns where the head ends in `chunk`, or the length of `chunk` when it does not. */
  #readHead(chunk: Buffer, at: number): number {
    const kept = this.#head;
    const bytes = kept ? Buffer.concat([kept, chunk.subarray(at, at + maxHeadBytes)]) : chunk;
    const start = kept ? 0 : at;
    const length = this.#lengthAt(bytes, start);
    if (length === 'refused') {
      this.#state = 'over';
      if (kept) this.#listener.other(kept);
      return at;
    }
    if (length === 'more') {
      this.#head = Buffer.from(bytes.subarray(start));
      return chunk.length;
    }
    this.#head = undefined;
    const end = start + headBytes(bytes[start + 1]!);
    this.#begin(bytes.subarray(start, end), length);
    return end - start + at - (kept?.length ?? 0);
  }

  #begin(head: Buffer, length: number): void {
    this.#left = length;
    if (head[0] === binary && length > 0) {
      this.#state = 'payload';
      this.#mask = head.readInt32BE(head.length - maskBytes);
    } else {
      this.#listener.other(head);
      if (length > 0) this.#state = 'passed';
    }
  }

  /** Payload length of the frame that begins at `at`. */
  #lengthAt(bytes: Buffer, at: number): number | 'more' | 'refused' {
    const first = bytes[at]!;
    const isControl = first === ping || first === pong;
    const isKnown = isControl || first === binary || (first === text && this.#passesText);
    if (!isKnown) return 'refused';
    const second = bytes[at + 1];
    if (second === undefined) return 'more';
    if (second < masked) return 'refused';
    const [short, arrived] = [second - masked, bytes.length - at];
    // As early as possible: the rest of a frame that is refused is not waited for.
    if (isControl && short > maxControlBytes) return 'refused';
    if (arrived < headBytes(second) - maskBytes) return 'more';
    const length = readLength(bytes, at, short);
    if (length > this.#maxBytes) return 'refused';
    return arrived < headBytes(second) ? 'more' : length;
  }
}

function headBytes(second: number): number {
  const short = second - masked;
  return 2 + maskBytes + (short < 126 ? 0 : short === 126 ? 2 : 8);
}

function readLength(bytes: Buffer, at: number, short: number): number {
  if (short < 126) return short;
  if (short === 126) return bytes.readUInt16BE(at + 2);
  return bytes.readUInt32BE(at + 2) * 2 ** 32 + bytes.readUInt32BE(at + 6);
}
