import { createHmac } from 'node:crypto';
import { md4 } from './md4.ts';

/** MS-NLMP §2.2.2.5, those that matter here. */
const flag = {
  unicode: 0x0000_0001,
  oem: 0x0000_0002,
  requestTarget: 0x0000_0004,
  ntlm: 0x0000_0200,
  alwaysSign: 0x0000_8000,
  extendedSessionSecurity: 0x0008_0000,
  targetInfo: 0x0080_0000,
  version: 0x0200_0000,
  key128: 0x2000_0000,
  key56: 0x8000_0000,
} as const;

const signature = Buffer.from('NTLMSSP\0', 'latin1');
/** Those of the pairs in a target info that are read or written (§2.2.2.1). */
const pairIds = { end: 0, flags: 6, timestamp: 7 } as const;
/** In the pair `flags`: there is a message integrity code. */
const hasCode = 2;

/** The first message: what this client can do. It says nothing of the user or of this machine. */
export function negotiateMessage(): Buffer {
  const message = Buffer.alloc(32);
  signature.copy(message);
  message.writeUInt32LE(1, 8);
  message.writeUInt32LE(offered >>> 0, 12);
  return message;
}

const offered =
  flag.unicode |
  flag.oem |
  flag.requestTarget |
  flag.ntlm |
  flag.alwaysSign |
  flag.extendedSessionSecurity |
  flag.key128 |
  flag.key56;

/** The second message, that of the proxy. */
export interface NtlmChallenge {
  readonly flags: number;
  readonly serverChallenge: Buffer;
  /** As it came; empty where there is none. */
  readonly targetInfo: Buffer;
  /** The time of the proxy, in its own units. */
  readonly timestamp?: Buffer;
  readonly bytes: Buffer;
}

/** Reads the second message. Throws `RangeError` for one that is none. */
export function parseChallengeMessage(bytes: Buffer): NtlmChallenge {
  if (bytes.length < 32 || !bytes.subarray(0, 8).equals(signature) || bytes.readUInt32LE(8) !== 2)
    throw new RangeError('no NTLM challenge');
  const flags = bytes.readUInt32LE(20);
  const hasInfo = bytes.length >= 48 && (flags & flag.targetInfo) !== 0;
  const targetInfo = hasInfo ? slice(bytes, 40) : Buffer.alloc(0);
  const timestamp = pairsOf(targetInfo).find(([id]) => id === pairIds.timestamp)?.[1];
  return {
    flags,
    serverChallenge: bytes.subarray(24, 32),
    targetInfo,
    ...(timestamp?.length === 8 ? { timestamp } : {}),
    bytes,
  };
}

/** The bytes that a field of length, room and offset points to. */
function slice(bytes: Buffer, at: number): Buffer {
  const [length, offset] = [bytes.readUInt16LE(at), bytes.readUInt32LE(at + 4)];
  if (offset + length > bytes.length) throw new RangeError('an NTLM field beyond the end');
  return bytes.subarray(offset, offset + length);
}

type Pair = readonly [id: number, value: Buffer];

function pairsOf(info: Buffer): Pair[] {
  const pairs: Pair[] = [];
  for (let at = 0; at + 4 <= info.length;) {
    const [id, length] = [info.readUInt16LE(at), info.readUInt16LE(at + 2)];
    if (id === pairIds.end) break;
    at += 4;
    if (at + length > info.length) throw new RangeError('an NTLM pair beyond the end');
    pairs.push([id, info.subarray(at, at + length)]);
    at += length;
  }
  return pairs;
}

function formatPairs(pairs: readonly Pair[]): Buffer {
  return Buffer.concat(
    [...pairs, [pairIds.end, Buffer.alloc(0)] as const].flatMap(([id, value]) => {
      const head = Buffer.alloc(4);
      head.writeUInt16LE(id, 0);
      head.writeUInt16LE(value.length, 2);
      return [head, value];
    }),
  );
}

/** Who signs in. */
export interface NtlmUser {
  readonly domain: string;
  readonly name: string;
  readonly password: string;
}

/** Time and chance, as they go into the third message. */
export interface NtlmFreshness {
  /** 8 bytes. */
  readonly clientChallenge: Buffer;
  readonly nowMs: number;
}

/** NTOWFv2 of §3.3.2. The domain is taken as it is written, the name in capitals. */
export function responseKey({ domain, name, password }: NtlmUser): Buffer {
  return hmac(md4(utf16(password)), utf16(capitals(name) + domain));
}

/** One character for one, as Windows does it: `ß` stays. */
function capitals(text: string): string {
  return text.replaceAll(/[^]/gu, (c) => (c.toUpperCase().length === c.length ? c.toUpperCase() : c));
}

/** The two responses and the session key (§3.3.2). `time` is 8 bytes. */
export function responses(
  key: Buffer,
  given: {
    readonly serverChallenge: Buffer;
    readonly clientChallenge: Buffer;
    readonly time: Buffer;
    readonly targetInfo: Buffer;
  },
): { readonly lm: Buffer; readonly nt: Buffer; readonly sessionKey: Buffer } {
  const { serverChallenge, clientChallenge, time, targetInfo } = given;
  const temp = Buffer.concat([
    Buffer.from([1, 1, 0, 0, 0, 0, 0, 0]),
    time,
    clientChallenge,
    Buffer.alloc(4),
    targetInfo,
    Buffer.alloc(4),
  ]);
  const proof = hmac(key, serverChallenge, temp);
  return {
    lm: Buffer.concat([hmac(key, serverChallenge, clientChallenge), clientChallenge]),
    nt: Buffer.concat([proof, temp]),
    sessionKey: hmac(key, proof),
  };
}

/**
 * The third message, NTLMv2 only (§3.1.5.1.2). For a proxy that gives its time the three messages are signed, so that
 * no intermediary can have changed what was agreed. Throws `RangeError`.
 */
export function authenticateMessage(
  challenge: NtlmChallenge,
  user: NtlmUser,
  { clientChallenge, nowMs }: NtlmFreshness,
): Buffer {
  const { serverChallenge, timestamp, targetInfo } = challenge;
  const isSigned = timestamp !== undefined;
  const computed = responses(responseKey(user), {
    serverChallenge,
    clientChallenge,
    time: timestamp ?? fileTime(nowMs),
    targetInfo: isSigned ? withCodeFlag(targetInfo) : targetInfo,
  });
  const isUnicode = (challenge.flags & flag.unicode) !== 0;
  const encode = isUnicode ? utf16 : (text: string): Buffer => Buffer.from(text, 'latin1');
  const flags = (offered & challenge.flags) | flag.ntlm | (isUnicode ? flag.unicode : flag.oem);
  const message = formatAuthenticate((isSigned ? flags | flag.version : flags) >>> 0, isSigned, [
    // With a timestamp the older response is not sent.
    isSigned ? Buffer.alloc(24) : computed.lm,
    computed.nt,
    encode(user.domain),
    encode(user.name),
    Buffer.alloc(0),
    Buffer.alloc(0),
  ]);
  if (isSigned)
    hmac(computed.sessionKey, negotiateMessage(), challenge.bytes, message).copy(message, codeOffset);
  return message;
}

const codeOffset = 72;

/** Six fields of length, room and offset; flags; version and code where the message is signed; then the bytes. */
function formatAuthenticate(flags: number, isSigned: boolean, fields: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(isSigned ? codeOffset + 16 : 64);
  signature.copy(head);
  head.writeUInt32LE(3, 8);
  let offset = head.length;
  fields.forEach((field, index) => {
    const at = 12 + index * 8;
    head.writeUInt16LE(field.length, at);
    head.writeUInt16LE(field.length, at + 2);
    head.writeUInt32LE(offset, at + 4);
    offset += field.length;
  });
  head.writeUInt32LE(flags, 60);
  // Revision 15 of NTLMSSP; the Windows version is zero.
  if (isSigned) head[71] = 15;
  return Buffer.concat([head, ...fields]);
}

function withCodeFlag(targetInfo: Buffer): Buffer {
  const pairs = pairsOf(targetInfo);
  const before = pairs.find(([id]) => id === pairIds.flags)?.[1];
  const value = Buffer.alloc(4);
  value.writeUInt32LE(((before?.length === 4 ? before.readUInt32LE(0) : 0) | hasCode) >>> 0);
  return formatPairs([...pairs.filter(([id]) => id !== pairIds.flags), [pairIds.flags, value]]);
}

/** 100 ns since 1601. */
function fileTime(nowMs: number): Buffer {
  const time = Buffer.alloc(8);
  time.writeBigUInt64LE((BigInt(nowMs) + 11_644_473_600_000n) * 10_000n);
  return time;
}

function hmac(key: Buffer, ...parts: readonly Buffer[]): Buffer {
  const hmac = createHmac('md5', key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

function utf16(text: string): Buffer {
  return Buffer.from(text, 'utf16le');
}
