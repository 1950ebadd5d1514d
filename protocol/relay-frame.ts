import type { Buffer } from 'node:buffer';
import type { Release } from '../base/buffer-pool.ts';

/**
 * A frame that two ends of a resumable tunnel exchange on a carrier (docs/entry/relay.md). Positions count the bytes of one direction from
 * the start of the tunnel; the EOF takes one position, after the last byte, so that an acknowledgement covers it.
 */
export type RelayFrame =
  | {
      readonly kind: 'data';
      readonly bytes: Buffer;
      /** Of a received frame: returns its memory when the bytes are no longer needed; without a call, they can be kept. */
      readonly release?: Release | undefined;
    }
  /** The EOF, at position `at`. */
  | { readonly kind: 'end'; readonly at: number }
  /** Everything before position `at` has been read. */
  | { readonly kind: 'ack'; readonly at: number }
  | { readonly kind: 'ping'; readonly id: number }
  | { readonly kind: 'pong'; readonly id: number }
  /** A request to resume on a new carrier; this one continues until then. */
  | { readonly kind: 'move' }
  | RelayGreeting;

/** The first frame of a carrier, from the gateway alone. */
export type RelayGreeting = RelayOpened | RelayJoined;

export interface RelayOpened {
  readonly kind: 'opened';
  /** Names the tunnel; to resume it takes a token of the same principal too. */
  readonly sid: string;
  /** Signs requests to resume (docs/entry/relay.md); absent in relay v4. */
  readonly secret?: string;
  /** How many bytes each side can leave unacknowledged; absent in relay v4. */
  readonly windowBytes?: number;
  /** How long the gateway keeps a tunnel that has no carrier. */
  readonly keepMs?: number;
  /** The age at which an intermediary cuts carriers, where the gateway knows one. */
  readonly carrierMs?: number;
}

export interface RelayJoined {
  readonly kind: 'joined';
  /** How far the gateway has read what the client sent. */
  readonly received: number;
  /** The position of the first byte that it sends on this carrier. Relay v4: what the client asked for. */
  readonly from?: number;
}

/** A message that breaks the rules of the protocol. It closes its carrier with `closeCode` and ends the tunnel. */
export class RelayViolation extends Error {
  override readonly name = 'RelayViolation';
  readonly closeCode: number;

  constructor(closeCode: number, message: string) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** Close codes of relay v4 (SshRelayConstants.cs of IAP Desktop names them all); ours are in end-reason.ts. */
export const relayCloseCodes = {
  BAD_ACK: 4005,
  INVALID_OPCODE: 4007,
  INVALID_TAG: 4008,
  TARGET_LOST: 4010,
  INVALID_DATA: 4013,
} as const;

/** Encodes frames as the messages of a WebSocket. */
export interface RelayCodec {
  /** The largest number of bytes in one `data` frame. */
  readonly maxDataBytes: number;
  /** The message for a frame; undefined where the protocol has none. */
  encode(frame: RelayFrame): RelayMessage | undefined;
  /** Throws `RelayViolation`. Undefined for an unknown message, which is no violation. */
  decode(message: Buffer, isBinary: boolean): RelayFrame | undefined;
}

/** One message of a WebSocket: binary, or text. */
export type RelayMessage = Buffer | string;
