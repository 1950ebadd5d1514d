import { RelayViolation, relayCloseCodes } from './relay-frame.ts';
import type { RelayCodec, RelayFrame, RelayOpened } from './relay-frame.ts';

/** The subprotocol of our own clients. */
export const relayV1Subprotocol = 'postern.relay.v1';

const maxDataBytes = 64 * 1024;
const maxTextBytes = 1024;
const maxTokenLength = 128;

/**
 * `postern.relay.v1` (docs/entry/relay.md): a binary message is data, a text message everything else: a word, then
 * `key=value` pairs, all of printable ASCII, with one space between them. Unknown words and keys are skipped.
 */
export const relayV1: RelayCodec = {
  maxDataBytes,
  encode: (frame) => (frame.kind === 'data' ? frame.bytes : encodeText(frame)),
  decode(message, isBinary) {
    if (!isBinary) return decodeText(message.toString('latin1'));
    if (message.length === 0 || message.length > maxDataBytes)
      throw new RelayViolation(relayCloseCodes.INVALID_DATA, 'an empty message, or one that is too long');
    return { kind: 'data', bytes: message };
  },
};

function encodeText(frame: Exclude<RelayFrame, { kind: 'data' }>): string {
  switch (frame.kind) {
    case 'ack':
    case 'end':
      return `${frame.kind} at=${frame.at}`;
    case 'ping':
    case 'pong':
      return `${frame.kind} id=${frame.id}`;
    case 'move':
      return 'move';
    case 'joined':
      return `joined received=${frame.received} from=${frame.from}`;
    default:
      return encodeOpened(frame);
  }
}

function encodeOpened({ sid, secret, windowBytes, keepMs, carrierMs }: RelayOpened): string {
  const age = carrierMs === undefined ? '' : ` carrier=${carrierMs}`;
  return `opened sid=${sid} secret=${secret} window=${windowBytes} keep=${keepMs}${age}`;
}

function decodeText(text: string): RelayFrame | undefined {
  if (text.length > maxTextBytes || !/^[a-z]+(?: [a-z]+=[\x21-\x7e]*)*$/.test(text)) throw unreadable();
  const [word, ...pairs] = text.split(' ');
  const values = new Map(pairs.map((pair) => splitPair(pair)));
  // Two readers could each take another one.
  if (values.size < pairs.length) throw unreadable();
  switch (word) {
    case 'ack':
    case 'end':
      return { kind: word, at: readNumber(values, 'at') };
    case 'ping':
    case 'pong':
      return { kind: word, id: readNumber(values, 'id') };
    case 'move':
      return { kind: 'move' };
    case 'joined':
      return { kind: 'joined', received: readNumber(values, 'received'), from: readNumber(values, 'from') };
    case 'opened':
      return readOpened(values);
    default:
      return undefined;
  }
}

function readOpened(values: ReadonlyMap<string, string>): RelayFrame {
  return {
    kind: 'opened',
    sid: readToken(values, 'sid'),
    secret: readToken(values, 'secret'),
    windowBytes: readNumber(values, 'window'),
    keepMs: readNumber(values, 'keep'),
    ...(values.has('carrier') && { carrierMs: readNumber(values, 'carrier') }),
  };
}

function splitPair(pair: string): [key: string, value: string] {
  const equals = pair.indexOf('=');
  return [pair.slice(0, equals), pair.slice(equals + 1)];
}

/** A decimal number that JavaScript represents exactly. */
function readNumber(values: ReadonlyMap<string, string>, key: string): number {
  const text = values.get(key) ?? '';
  const value = /^(?:0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw unreadable();
  return value;
}

function readToken(values: ReadonlyMap<string, string>, key: string): string {
  const value = values.get(key) ?? '';
  if (value.length > maxTokenLength || !/^[\w.-]+$/.test(value)) throw unreadable();
  return value;
}

function unreadable(): RelayViolation {
  return new RelayViolation(relayCloseCodes.INVALID_TAG, 'a text message that cannot be read');
}
