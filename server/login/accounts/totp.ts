import { createHmac, randomBytes } from 'node:crypto';
import { equalInConstantTime } from '../../../base/constant-time.ts';

/** RFC 6238 with the parameters that every authenticator app supports: SHA-1, 30 seconds, 6 digits. */
const stepMs = 30_000;
const digits = 6;
const secretBytes = 20;
/** A code is valid in its own time step and the adjacent ones: people type slowly, and clocks differ. */
const stepsAround = 1;

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** A new secret, in base32 as apps accept it. */
export function newTotpSecret(): string {
  return toBase32(randomBytes(secretBytes));
}

/** The URL that an app reads from a QR code, or that is pasted into it. */
export function totpUrl(secret: string, { issuer, account }: { issuer: string; account: string }): string {
  const label = `${encodeURIComponent(issuer)}:${encodeURIComponent(account)}`;
  return `otpauth://totp/${label}?secret=${secret}&issuer=${encodeURIComponent(issuer)}`;
}

/**
 * The time step of `code`, if it is valid at `nowMs` and later than `lastStep`: a caller that keeps the step of the last
 * accepted code accepts none twice.
 */
export function matchingStep(
  code: string,
  secret: string,
  { nowMs, lastStep = -1 }: { nowMs: number; lastStep?: number },
): number | undefined {
  const typed = code.replaceAll(/[\s-]/g, '');
  const current = Math.floor(nowMs / stepMs);
  let found: number | undefined;
  for (let step = current - stepsAround; step <= current + stepsAround; step++) {
    const isSame = equalInConstantTime(typed, codeOfStep(secret, step));
    if (isSame && step > lastStep) found = step;
  }
  return found;
}

/** The code of a time step (RFC 4226 section 5.3). */
export function codeOfStep(secret: string, step: number): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac('sha1', fromBase32(secret)).update(counter).digest();
  const number = mac.readUInt32BE(mac.at(-1)! & 0xf) & 0x7fffffff;
  return String(number % 10 ** digits).padStart(digits, '0');
}

function toBase32(bytes: Buffer): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return (bits.match(/.{5}/g) ?? []).map((five) => alphabet[Number.parseInt(five, 2)]).join('');
}

function fromBase32(text: string): Buffer {
  const bits = Array.from(text, (letter) => alphabet.indexOf(letter).toString(2).padStart(5, '0')).join('');
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}
