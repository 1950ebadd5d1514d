import { Buffer } from 'node:buffer';
import { RelayViolation, relayCloseCodes } from './relay-frame.ts';
import type { RelayCodec, RelayMessage } from './relay-frame.ts';

/**
 * Relay v4, as implemented by gcloud (`relay.tunnel.cloudproxy.app`) and nassh (`ssh`): binary messages, each one command,
 * big endian. `u16 tag`, then by tag: a length and bytes, or a u64 position.
 */
export const relayV4Tags = {
  CONNECT_SUCCESS: 0x0001,
  RECONNECT_SUCCESS: 0x0002,
  DATA: 0x0004,
  ACK: 0x0007,
} as const;

/** The subprotocols of relay v4; the response repeats the one that was offered. */
export const relayV4Subprotocols: readonly string[] = ['relay.tunnel.cloudproxy.app', 'ssh'];

/** Largest number of bytes in a DATA message. */
export const relayV4DataBytes = 16_384;

/** Every client skips unknown tags; a WebSocket ping would end gcloud. */
const keepAliveTag = 0x00f0;

export const relayV4: RelayCodec = {
  maxDataBytes: relayV4DataBytes,
  encode(frame) {
    switch (frame.kind) {
      case 'data':
        return withLength(relayV4Tags.DATA, frame.bytes);
      case 'opened':
        return withLength(relayV4Tags.CONNECT_SUCCESS, Buffer.from(frame.sid, 'latin1'));
      case 'joined':
        return withPosition(relayV4Tags.RECONNECT_SUCCESS, frame.received);
      case 'ack':
        return withPosition(relayV4Tags.ACK, frame.at);
      case 'ping':
        return tagAlone(keepAliveTag);
      default:
        return undefined;
    }
  },
  decode(message, isBinary) {
    if (!isBinary) throw new RelayViolation(relayCloseCodes.INVALID_OPCODE, 'a text message');
    if (message.length < 2) throw new RelayViolation(relayCloseCodes.INVALID_TAG, 'a message without a tag');
    const tag = message.readUInt16BE(0);
    switch (tag) {
      case relayV4Tags.DATA:
        return { kind: 'data', bytes: readBytes(message, relayV4DataBytes) };
      case relayV4Tags.ACK:
        return { kind: 'ack', at: readPosition(message) };
      case relayV4Tags.CONNECT_SUCCESS:
        return { kind: 'opened', sid: readBytes(message, 1024).toString('latin1') };
      case relayV4Tags.RECONNECT_SUCCESS:
        return { kind: 'joined', received: readPosition(message) };
      default:
        return undefined;
    }
  },
};

function withLength(tag: number, bytes: Buffer): RelayMessage {
  const message = Buffer.allocUnsafe(6 + bytes.length);
  message.writeUInt16BE(tag, 0);
  message.writeUInt32BE(bytes.length, 2);
  bytes.copy(message, 6);
  return message;
}

function withPosition(tag: number, position: number): RelayMessage {
  const message = Buffer.allocUnsafe(10);
  message.writeUInt16BE(tag, 0);
  message.writeBigUInt64BE(BigInt(position), 2);
  return message;
}

function tagAlone(tag: number): RelayMessage {
  const message = Buffer.allocUnsafe(2);
  message.writeUInt16BE(tag, 0);
  return message;
}

/** Bytes after the given length are ignored. */
function readBytes(message: Buffer, maxBytes: number): Buffer {
  const length = message.length < 6 ? Infinity : message.readUInt32BE(2);
  if (length === 0 || length > maxBytes || message.length < 6 + length)
    throw new RelayViolation(relayCloseCodes.INVALID_DATA, 'a length that is not that of the message');
  return message.subarray(6, 6 + length);
}

function readPosition(message: Buffer): number {
  const position = message.length < 10 ? -1n : message.readBigUInt64BE(2);
  if (position < 0n || position > BigInt(Number.MAX_SAFE_INTEGER))
    throw new RelayViolation(relayCloseCodes.BAD_ACK, 'an impossible position');
  return Number(position);
}
