import { Buffer } from 'node:buffer';
import { unmask } from './mask.ts';

/** Told what the frames bring, in order. */
export interface PlainFramesListener {
  /** Bytes of a binary message, unmasked, of which `left` are still to come. They lie in what was pushed. */
  payload(bytes: Buffer, left: number): void;
  /** Bytes of all other frames, as they came. */
  other(bytes: Buffer): void;
}

export interface PlainFramesOptions {
  /** The longest message that is read here. */
  readonly maxBytes: number;
  /** Whether text messages are handed on like pings; else they are the end of what is read here. */
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

type State = 'head' | 'payload' | 'passed' | 'over';

/**
 * The fast way through what a client sends by WebSocket (RFC 6455 §5): binary messages of one frame that are not empty and
 * no longer than `maxBytes` are read here, byte for byte as they come. Pings, pongs, the empty message, and text where that
 * is said, go to somebody who knows the rest of the protocol, and from the first frame that is none of these on, everything does: what may come
 * after which, and what is refused, is decided there alone.
 */
export class PlainFrames {
  readonly #maxBytes: number;
  readonly #passesText: boolean;
  readonly #listener: PlainFramesListener;
  #state: State = 'head';
  /** The beginning of a head whose end has not come. */
  #head: Buffer | undefined;
  /** Bytes of this frame that have not come. */
  #left = 0;
  #mask = 0;

  constructor({ maxBytes, passesText = false }: PlainFramesOptions, listener: PlainFramesListener) {
    this.#maxBytes = maxBytes;
    this.#passesText = passesText;
    this.#listener = listener;
  }

  /** Takes what has come, whose bytes change. */
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
      this.#mask = unmask(bytes, this.#mask);
      this.#listener.payload(bytes, this.#left);
    }
    if (this.#left === 0) this.#state = 'head';
    return at + bytes.length;
  }

  /** Gives where the head ends in `chunk`, or where that does. */
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

  /** How long the frame is that begins there. */
  #lengthAt(bytes: Buffer, at: number): number | 'more' | 'refused' {
    const first = bytes[at]!;
    const isControl = first === ping || first === pong;
    const isKnown = isControl || first === binary || (first === text && this.#passesText);
    if (!isKnown) return 'refused';
    const second = bytes[at + 1];
    if (second === undefined) return 'more';
    if (second < masked) return 'refused';
    const [short, arrived] = [second - masked, bytes.length - at];
    // As soon as it can be told: nobody waits for the rest of what is refused.
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
