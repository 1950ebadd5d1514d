import { Buffer } from 'node:buffer';

/**
 * What two ends of a resumable tunnel say to each other on a carrier. Positions count the bytes of one direction from
 * the start of the tunnel; the EOF takes one position, after the last byte, so that an acknowledgement covers it.
 */
export type RelayFrame =
  | {
      readonly kind: 'data';
      readonly bytes: Buffer;
      /** Of one that has come: gives its memory back when nobody needs the bytes any more; without a call, they may be kept. */
      readonly release?: ((error?: Error | null) => void) | undefined;
    }
  /** The EOF, which stands at position `at`. */
  | { readonly kind: 'end'; readonly at: number }
  /** Everything before position `at` has been taken. */
  | { readonly kind: 'ack'; readonly at: number }
  | { readonly kind: 'ping'; readonly id: number }
  | { readonly kind: 'pong'; readonly id: number }
  /** Please come back on a new carrier; this one goes on until then. */
  | { readonly kind: 'move' }
  | RelayGreeting;

/** The first frame of a carrier, from the gateway alone. */
export type RelayGreeting = RelayOpened | RelayJoined;

export interface RelayOpened {
  readonly kind: 'opened';
  /** Names the tunnel; whoever has it still needs the token of the same principal. */
  readonly sid: string;
  /** Signs requests to rejoin (docs/entry/relay.md); absent in relay v4. */
  readonly secret?: string;
  /** How many bytes each side may leave unacknowledged; absent in relay v4. */
  readonly windowBytes?: number;
  /** How long the gateway keeps a tunnel that has no carrier. */
  readonly keepMs?: number;
  /** The greatest age of a carrier that survives the way, where the gateway knows one. */
  readonly carrierMs?: number;
}

export interface RelayJoined {
  readonly kind: 'joined';
  /** How far the gateway has taken what the client sent. */
  readonly received: number;
  /** The position of the first byte that it sends on this carrier. Relay v4: what the client asked for. */
  readonly from?: number;
}

/** A message of a carrier that breaks its rules. The carrier is then closed with `closeCode` and the tunnel ended. */
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

/** How frames are written in the messages of a WebSocket. */
export interface RelayCodec {
  /** The most bytes that one `data` may hold. */
  readonly maxDataBytes: number;
  /** The messages that stand for a frame; what the wire has no word for is none. */
  encode(frame: RelayFrame): RelayMessage | undefined;
  /** Throws `RelayViolation`; undefined for what is not known, which is no mistake. */
  decode(message: Buffer, isBinary: boolean): RelayFrame | undefined;
}

/** One message of a WebSocket: binary, or text. */
export type RelayMessage = Buffer | string;
