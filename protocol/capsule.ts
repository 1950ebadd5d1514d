import { isEndReason } from './end-reason.ts';
import type { EndReason } from './end-reason.ts';
import { decodeLargeVarint, decodeVarint, encodeVarint } from './varint.ts';

/** The two capsule types that carry a TCP byte stream (draft-ietf-httpbis-connect-tcp, "Capsule types"). */
export interface CapsuleCodes {
  readonly data: number;
  readonly finalData: number;
}

/**
 * The upgrade tokens we answer to, each with the capsule types of its draft.
 * IANA has assigned none yet: the bare token means the newest draft, -12.
 */
const codesByToken: Readonly<Record<string, CapsuleCodes>> = {
  'connect-tcp': { data: 0x2028d7f2, finalData: 0x2028d7f3 },
  'connect-tcp-12': { data: 0x2028d7f2, finalData: 0x2028d7f3 },
  'connect-tcp-07': { data: 0x2028d7f0, finalData: 0x2028d7f1 },
};

/** Every known `Upgrade` token of connect-tcp, the preferred one first. */
export const connectTcpTokens: readonly string[] = Object.keys(codesByToken);

/** The capsule types that belong to an `Upgrade` token; undefined for an unknown one. */
export function capsuleCodes(token: string): CapsuleCodes | undefined {
  return Object.hasOwn(codesByToken, token) ? codesByToken[token] : undefined;
}

/** The header of a capsule whose value of `length` bytes follows it. */
export function capsuleHead(type: number, length: number): Buffer {
  return Buffer.concat([encodeVarint(type), encodeVarint(length)]);
}

/**
 * An empty capsule of a reserved type (RFC 9297 section 5.4: 0x29 * N + 0x17), which every receiver skips.
 * It keeps the idle timers of intermediaries from expiring.
 */
export const keepAliveCapsule: Buffer = capsuleHead(0x17, 0);

/** Private: the reason for the end of the tunnel, in ASCII. Other receivers skip it (RFC 9297 section 3.2), and see an abort. */
const reasonType = 0x37a1c9e5;
const maxReasonBytes = 32;

/** Private: what there is to say about that reason, as `REASON: words` in UTF-8. It comes before the reason, if at all. */
const endTextType = 0x37a1c9e6;
const maxEndTextBytes = 256;

/** The capsules that precede an abort, for receivers that know them. `text` is the reason, or begins with it. */
export function reasonCapsule(reason: EndReason, text: string = reason): Buffer {
  const words = Buffer.from(text === reason ? '' : text);
  return Buffer.concat([
    ...(words.length === 0 ? [] : [capsuleHead(endTextType, words.length), words]),
    capsuleHead(reasonType, reason.length),
    Buffer.from(reason, 'latin1'),
  ]);
}

/** Bytes of the stream, its end, or the reason for which it will be aborted. */
export type CapsuleEvent =
  | { readonly kind: 'data'; readonly bytes: Buffer }
  | { readonly kind: 'end' }
  | { readonly kind: 'reason'; readonly reason: EndReason; readonly text: string };

type Carries = 'data' | 'finalData' | 'reason' | 'endText' | 'nothing';

type State =
  { readonly name: 'head' } | { readonly name: 'value'; readonly carries: Carries; readonly left: number };

/** A type and a length are at most two integers of 8 bytes. */
const maxHeadBytes = 16;

/**
 * Reads a TCP byte stream out of capsules (RFC 9297 §3.2). Bytes are given out as they come, without waiting for
 * the end of their capsule. Other capsule types are skipped. After an error the decoder is unusable.
 */
export class CapsuleDecoder {
  readonly #codes: CapsuleCodes;
  #state: State = { name: 'head' };
  #head: Buffer = Buffer.alloc(0);
  #reason = '';
  #endText: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(codes: CapsuleCodes) {
    this.#codes = codes;
  }

  /** Whether the end of FINAL_DATA has arrived: an end of the connection before that is an abort. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether the connection can end here without truncating a capsule. */
  get betweenCapsules(): boolean {
    return this.#state.name === 'head' && this.#head.length === 0;
  }

  /** Events completed by `chunk`. Throws `RangeError` for an absurd length, and for data after the end. */
  *push(chunk: Buffer): Generator<CapsuleEvent> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#state.name === 'head') {
        at = this.#readHead(chunk, at);
        if (this.#state.name === 'head') return;
      } else {
        const taken = Math.min(this.#state.left, chunk.length - at);
        const bytes = chunk.subarray(at, at + taken);
        if (this.#state.carries === 'reason') this.#reason += bytes.toString('latin1');
        else if (this.#state.carries === 'endText') this.#endText = Buffer.concat([this.#endText, bytes]);
        else if (this.#state.carries !== 'nothing') yield { kind: 'data', bytes };
        this.#state = { ...this.#state, left: this.#state.left - taken };
        at += taken;
      }
      if (this.#state.left > 0) continue;
      const { carries } = this.#state;
      this.#state = { name: 'head' };
      if (carries === 'reason') {
        const reason = this.#reason;
        this.#reason = '';
        if (isEndReason(reason)) yield { kind: 'reason', reason, text: this.#endText.toString() };
      }
      if (carries !== 'finalData') continue;
      this.#ended = true;
      yield { kind: 'end' };
    }
  }

  /** Reads type and length, and returns where they end; the state stays `head` while bytes are missing. */
  #readHead(chunk: Buffer, at: number): number {
    const kept = this.#head.length;
    const bytes = kept === 0 ? chunk : Buffer.concat([this.#head, chunk.subarray(at, at + maxHeadBytes)]);
    const start = kept === 0 ? at : 0;
    const type = decodeLargeVarint(bytes, start);
    const length = type && decodeVarint(bytes, start + type.length);
    if (!type || !length) {
      this.#head = Buffer.from(bytes.subarray(start));
      return chunk.length;
    }
    this.#head = Buffer.alloc(0);
    this.#state = { name: 'value', carries: this.#carries(type.value, length.value), left: length.value };
    return at + type.length + length.length - kept;
  }

  #carries(type: number | bigint, length: number): Carries {
    if (type === reasonType) return length <= maxReasonBytes ? 'reason' : 'nothing';
    if (type === endTextType) {
      this.#endText = Buffer.alloc(0);
      return length <= maxEndTextBytes ? 'endText' : 'nothing';
    }
    const carries =
      type === this.#codes.data ? 'data' : type === this.#codes.finalData ? 'finalData' : 'nothing';
    if (carries !== 'nothing' && this.#ended) throw new RangeError('data after the final data');
    return carries;
  }
}
