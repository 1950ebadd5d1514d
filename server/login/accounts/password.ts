import { randomBytes, scrypt } from 'node:crypto';
import type { BinaryLike, ScryptOptions } from 'node:crypto';
import { z } from 'zod';
import { equalInConstantTime } from '../../../base/constant-time.ts';

/** A password as it is stored: salted and hashed by scrypt (RFC 7914), with its cost. */
export const passwordHash = z.object({ cost: z.number(), salt: z.string(), hash: z.string() });
export type PasswordHash = Readonly<z.output<typeof passwordHash>>;

/** 128 MiB and about half a second for each guess (OWASP: N=2^17, r=8, p=1). */
const cost = 2 ** 17;
const blockSize = 8;
const hashBytes = 32;
const saltBytes = 16;

/** The limits for a new password; a longer one is refused rather than cut. */
export const passwordLengths = { min: 10, max: 1024 } as const;

/** Hashes a new password. Throws `RangeError` when it is too short or too long. */
export async function hashPassword(password: string): Promise<PasswordHash> {
  const { min, max } = passwordLengths;
  if (Array.from(password).length < min || password.length > max)
    throw new RangeError(`a password must have ${min} to ${max} characters`);
  const salt = randomBytes(saltBytes);
  const hash = await derive(password, salt, cost);
  return { cost, salt: salt.toString('base64url'), hash: hash.toString('base64url') };
}

/** Takes as long for a wrong password as for the right one. */
export async function isPassword(password: string, kept: PasswordHash): Promise<boolean> {
  const wanted = Buffer.from(kept.hash, 'base64url');
  const found = await derive(
    password.slice(0, passwordLengths.max + 1),
    Buffer.from(kept.salt, 'base64url'),
    kept.cost,
  );
  return equalInConstantTime(wanted, found);
}

/** The hash of no password, for the comparison where there is no account, so that this takes as long. */
export const dummyHash: PasswordHash = {
  cost,
  salt: randomBytes(saltBytes).toString('base64url'),
  hash: randomBytes(hashBytes).toString('base64url'),
};

function derive(password: string, salt: BinaryLike, costOfHash: number): Promise<Buffer> {
  // Keyboards write one letter in several ways (RFC 8265 section 4.2.2: NFC).
  const text = password.normalize('NFC');
  const options: ScryptOptions = { N: costOfHash, r: blockSize, p: 1, maxmem: 256 * costOfHash * blockSize };
  return new Promise((resolve, reject) => {
    scrypt(text, salt, hashBytes, options, (error, hash) => (error ? reject(error) : resolve(hash)));
  });
}
