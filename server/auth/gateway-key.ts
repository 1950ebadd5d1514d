import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { link, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CompactSign, calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK } from 'jose';
import type { CryptoKey, JSONWebKeySet, JWK } from 'jose';
import { NotRegularFileError, readRegularFile } from '../../base/regular-file.ts';
import { TunnelError } from '../../protocol/errors.ts';
import { findWeakness } from './jwt/weak-keys.ts';

/** The gateway's own keys: the first of its file signs, and tokens signed with any of them are trusted. */
export interface SigningKey {
  readonly kid: string;
  readonly privateKey: CryptoKey;
  readonly publicKeys: JSONWebKeySet;
}

/** `aud` of the tokens of the gateway's own key and sign-in. */
export const ownAudience = 'postern';

/** The longest lifetime of a token of the gateway's own key, in milliseconds. */
export const ownMaxLifetimeMs = 30 * 24 * 3_600_000;

/** More than a set of keys can reasonably be. */
const maxBytes = 1024 * 1024;

/** Loads the key file; creates it with a new key when it does not exist. Rejects with `CONFIG_INVALID`. */
export async function openKeyFile(file: string): Promise<SigningKey> {
  const present = await loadKeyFile(file);
  if (present) return present;
  await createFile(file, JSON.stringify({ keys: [await newKey()] }));
  // Read back: another process can have been first, and then its key is the one in use.
  const created = await loadKeyFile(file);
  if (!created) throw new TunnelError('CONFIG_INVALID', `${file} disappeared right after it was written`);
  return created;
}

/**
 * Loads the key file; undefined when it does not exist. Rejects with `CONFIG_INVALID` for a file that other users can read, or
 * that is not a key set.
 */
export async function loadKeyFile(file: string): Promise<SigningKey | undefined> {
  try {
    const { bytes } = await readRegularFile(file, maxBytes, (stats) => checkPrivate(stats, file));
    return await readKeys(JSON.parse(bytes.toString()) as unknown);
  } catch (cause) {
    if (cause instanceof TunnelError) throw cause;
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TunnelError('CONFIG_INVALID', `${file} ${whyUnusable(cause as NodeJS.ErrnoException)}`, {
      cause,
    });
  }
}

function whyUnusable(cause: NodeJS.ErrnoException): string {
  if (cause instanceof NotRegularFileError || cause instanceof RangeError) return cause.message;
  return cause.syscall === undefined ? 'is not a set of Ed25519 private keys (JWK)' : 'cannot be read';
}

/** What a new token says. */
export interface GatewayTokenRequest {
  readonly issuer: string;
  readonly audience: string;
  readonly subject: string;
  readonly groups: readonly string[];
  /** The token's own allowlist, as target patterns; absent: what the rules allow. */
  readonly targets?: readonly string[];
  /** How long it lives, in milliseconds. */
  readonly ttlMs: number;
  /** The wall clock, in milliseconds since 1970. */
  readonly now: number;
}

/** Signs a token (RFC 9068) of few bytes: old CONNECT clients cannot send long passwords. */
export async function issueToken(key: SigningKey, request: GatewayTokenRequest): Promise<string> {
  // With milliseconds, to distinguish a token issued right after a revocation from one issued right before.
  const issuedAt = request.now / 1000;
  const claims = {
    iss: request.issuer,
    aud: request.audience,
    sub: request.subject,
    ...(request.groups.length > 0 && { groups: request.groups }),
    ...(request.targets && { targets: request.targets }),
    iat: issuedAt,
    exp: Math.floor(issuedAt + request.ttlMs / 1000),
    // 72 bits: no two tokens of one key have the same.
    jti: randomBytes(9).toString('base64url'),
  };
  return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'EdDSA', typ: 'at+jwt', kid: key.kid })
    .sign(key.privateKey);
}

async function newKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair('EdDSA', { extractable: true });
  const jwk = await exportJWK(privateKey);
  // 48 bits of the RFC 7638 thumbprint distinguish the few keys of one gateway, and keep its tokens short.
  const kid = (await calculateJwkThumbprint(jwk)).slice(0, 8);
  return { ...jwk, kid, alg: 'EdDSA', use: 'sig' };
}

async function readKeys(value: unknown): Promise<SigningKey> {
  const keys = (value as { keys?: readonly JWK[] }).keys ?? [];
  const publicKeys = keys.map(publicPart);
  const [first] = keys;
  if (!first || new Set(publicKeys.map(({ kid }) => kid)).size !== keys.length) {
    throw new TypeError('no key, or two of the same kid');
  }
  const privateKey = (await importJWK({ ...first }, 'EdDSA')) as CryptoKey;
  if (privateKey.type !== 'private') throw new TypeError('not a private key');
  return { kid: first.kid!, privateKey, publicKeys: { keys: publicKeys } };
}

function publicPart({ kty, crv, x, kid }: JWK): JWK {
  if (kty !== 'OKP' || crv !== 'Ed25519' || !x || !kid) throw new TypeError('not an Ed25519 key with a kid');
  const jwk = { kty, crv, x, kid, alg: 'EdDSA', use: 'sig' };
  const weakness = findWeakness(jwk);
  if (weakness !== undefined) throw new TypeError(weakness);
  return jwk;
}

function checkPrivate({ mode, uid }: Stats, file: string): void {
  // Windows has no such modes; there the directory must be private.
  if (process.platform === 'win32') return;
  if ((mode & 0o077) !== 0) {
    throw new TunnelError('CONFIG_INVALID', `other users can read ${file}; run: chmod 600 ${file}`);
  }
  // Root reads it on behalf of the user that the gateway runs as: `postern-gateway token` beside a service.
  const user = process.geteuid?.();
  if (user !== 0 && uid !== user && uid !== 0) {
    throw new TunnelError('CONFIG_INVALID', `${file} belongs to another user`);
  }
}

/** Writes a complete file of mode 0600, or keeps the one that exists; a crash leaves no partial file. */
async function createFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.${randomBytes(6).toString('hex')}`;
  try {
    await writeDurably(temporary, text);
    try {
      // Not a rename: that would replace a key that another process has just begun to use.
      await link(temporary, file);
    } finally {
      await unlink(temporary);
    }
    await syncDirectory(dirname(file));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new TunnelError('CONFIG_INVALID', `${file} cannot be written`, { cause });
  }
}

async function writeDurably(file: string, text: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600);
  try {
    await handle.writeFile(`${text}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
