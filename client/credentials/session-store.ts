import { createHash } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Secret } from '../../protocol/secret.ts';
import { writePrivate } from '../os/files.ts';
import { readProofKey } from '../oauth/dpop.ts';
import type { ProofKey } from '../oauth/dpop.ts';
import { readSecretFile, unusable } from './secret-file.ts';
import { signInPath, signInPrefix } from './session-path.ts';

/** A stored sign-in, with the key it is bound to. */
export interface SavedSession {
  readonly gateway: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly tokenEndpoint: URL;
  readonly revocationEndpoint?: URL;
  readonly accessToken: Secret;
  readonly refreshToken?: Secret;
  /** When to renew the access token, and when it expires; milliseconds since the epoch by the local clock. */
  readonly renewAt: number;
  readonly expiresAt: number;
  /** How far the gateway's clock was ahead of the local one. */
  readonly clockOffsetMs: number;
  readonly key: ProofKey;
}

/** The directory of everything about the sign-in to one gateway; gateways share nothing. */
export function signInDirectory(state: string, gateway: URL): string {
  // The name is for people; the hash distinguishes gateways that differ only in their path.
  const hash = createHash('sha256').update(gateway.href).digest('hex').slice(0, 16);
  return join(state, `${signInPrefix(gateway)}${hash}`);
}

/**
 * Reads the sign-in to `gateway`, or undefined. Throws `CONFIG_INVALID` for files that are damaged or that others can
 * read, and for a sign-in without its key, which is useless.
 */
export function readSignIn(state: string, gateway: URL): SavedSession | undefined {
  const directory = signInDirectory(state, gateway);
  // A new sign-in that replaces the one being read removes its key; a second read finds the new pair.
  return readPair(directory, gateway) ?? readPair(directory, gateway, 'last read');
}

function readPair(directory: string, gateway: URL, read?: 'last read'): SavedSession | undefined {
  const path = signInPath(directory);
  const text = readSecretFile(path);
  if (text === undefined) return undefined;
  const found = parse(text);
  if (found === undefined) throw unusable(path, 'it is damaged');
  if (found.gateway !== gateway.href) throw unusable(path, 'it is for another gateway');
  const { keyThumbprint, ...rest } = found;
  const keyText = readSecretFile(keyPath(directory, keyThumbprint));
  const key = keyText === undefined ? undefined : readProofKey(keyText);
  if (key?.thumbprint === keyThumbprint) return { ...rest, key };
  if (read === 'last read') throw unusable(path, 'its key is missing');
  return undefined;
}

/**
 * Replaces the stored sign-in by `signIn` in one step, and then removes the keys of others. A new key comes with its
 * private JWK. The caller holds the renewal lock.
 */
export function writeSignIn(directory: string, signIn: SavedSession, privateJwk?: string): void {
  if (privateJwk !== undefined) writePrivate(keyPath(directory, signIn.key.thumbprint), `${privateJwk}\n`);
  const { key, accessToken, refreshToken, tokenEndpoint, revocationEndpoint, ...rest } = signIn;
  const kept = {
    version: 1,
    ...rest,
    tokenEndpoint: tokenEndpoint.href,
    ...(revocationEndpoint === undefined ? {} : { revocationEndpoint: revocationEndpoint.href }),
    accessToken: accessToken.reveal(),
    ...(refreshToken === undefined ? {} : { refreshToken: refreshToken.reveal() }),
    keyThumbprint: key.thumbprint,
  };
  writePrivate(signInPath(directory), `${JSON.stringify(kept, undefined, 2)}\n`);
  removeKeys(directory, keyName(key.thumbprint));
}

/** Removes the sign-in and its key. The caller holds the renewal lock. */
export function removeSignIn(directory: string): void {
  rmSync(signInPath(directory), { force: true });
  removeKeys(directory);
}

/** Also removes the temporary files of processes that were killed while writing: they contain secrets. */
function removeKeys(directory: string, except?: string): void {
  for (const name of namesIn(directory)) {
    const isKey = /^proof-key-[\w-]+\.json$/.test(name) && name !== except;
    if (isKey || /^(?:sign-in|proof-key-[\w-]+)\.json\..+\.tmp$/.test(name))
      rmSync(join(directory, name), { force: true });
  }
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function keyName(thumbprint: string): string {
  return `proof-key-${thumbprint}.json`;
}

function keyPath(directory: string, thumbprint: string): string {
  return join(directory, keyName(thumbprint));
}

type Kept = Omit<SavedSession, 'key'> & { readonly keyThumbprint: string };

function parse(text: string): Kept | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { version, gateway, issuer, clientId, tokenEndpoint, revocationEndpoint, ...rest } = (value ??
    {}) as Readonly<Record<string, unknown>>;
  const { accessToken, refreshToken, renewAt, expiresAt, clockOffsetMs, keyThumbprint } = rest;
  if (version !== 1 || !isText(gateway) || !isText(issuer) || !isText(clientId)) return undefined;
  if (!isUrlText(tokenEndpoint) || !isText(accessToken) || !isText(keyThumbprint)) return undefined;
  // A thumbprint becomes part of a path.
  if (!/^[\w-]{43}$/.test(keyThumbprint)) return undefined;
  if (![renewAt, expiresAt, clockOffsetMs].every(Number.isFinite)) return undefined;
  if (refreshToken !== undefined && !isText(refreshToken)) return undefined;
  if (revocationEndpoint !== undefined && !isUrlText(revocationEndpoint)) return undefined;
  return {
    gateway,
    issuer,
    clientId,
    tokenEndpoint: new URL(tokenEndpoint),
    ...(revocationEndpoint === undefined ? {} : { revocationEndpoint: new URL(revocationEndpoint) }),
    accessToken: new Secret(accessToken),
    ...(refreshToken === undefined ? {} : { refreshToken: new Secret(refreshToken) }),
    renewAt: renewAt as number,
    expiresAt: expiresAt as number,
    clockOffsetMs: clockOffsetMs as number,
    keyThumbprint,
  };
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isUrlText(value: unknown): value is string {
  return isText(value) && URL.canParse(value);
}
