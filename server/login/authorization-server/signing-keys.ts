import { randomBytes } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';
import type { JWK } from 'jose';
import { z } from 'zod';
import { fixedKeys } from '../../auth/jwt/jwks-cache.ts';
import type { KeySource } from '../../auth/jwt/jwks-cache.ts';
import type { Store, Table } from '../../store/store.ts';

const dayMs = 24 * 3_600_000;

/** A key signs for this long; then a new one does. */
export const keyLifeMs = 30 * dayMs;
/** Its signatures are trusted this much longer: more than any token of ours lives. */
export const keyRestMs = dayMs;

/** The private keys of the authorization server. */
export interface SigningKeys {
  /** With private parts. The first signs, all of them are trusted. */
  readonly current: readonly [JWK, ...JWK[]];
  /** Secrets for cookies and forms; the first signs. */
  readonly secrets: readonly [string, ...string[]];
  /** The public parts, for the gateway's own check of tokens; follows every change. */
  readonly source: KeySource;
  /** Makes new keys when the present ones are too old, and loads those that another process has made. */
  refresh(): Promise<void>;
  close(): void;
}

const keyRecord = z.object({
  jwk: z.custom<JWK & { readonly kid: string }>(isKeyWithId),
  secret: z.string(),
  /** Milliseconds since 1970. */
  madeAt: z.number(),
});
type KeyRecord = Readonly<z.output<typeof keyRecord>>;

function isKeyWithId(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'kid' in value && typeof value.kid === 'string';
}

export interface SigningKeysOptions {
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
  /** Called when the keys of another process cannot be read. */
  readonly onError?: (error: unknown) => void;
}

/** Opens the keys in the store; makes the first ones where there are none. */
export async function openSigningKeys(
  store: Store,
  { now = Date.now, onError }: SigningKeysOptions = {},
): Promise<SigningKeys> {
  const table = store.table('signingKeys', keyRecord);
  let records = await upToDate(table, now());
  let source = sourceOf(records);

  async function refresh(): Promise<void> {
    records = await upToDate(table, now());
    source = sourceOf(records);
  }

  const unwatch = table.watch(() => void refresh().catch(onError));
  return {
    get current() {
      return each(records, ({ jwk }) => jwk);
    },
    get secrets() {
      return each(records, ({ secret }) => secret);
    },
    source: { find: (hint) => source.find(hint) },
    refresh,
    close: unwatch,
  };
}

type Records = readonly [KeyRecord, ...KeyRecord[]];

function each<T>([first, ...rest]: Records, read: (record: KeyRecord) => T): readonly [T, ...T[]] {
  return [read(first), ...rest.map(read)];
}

/** All keys that are trusted, the newest first; makes one when the newest is too old. */
async function upToDate(table: Table<KeyRecord>, now: number): Promise<Records> {
  const [newest] = await load(table, now);
  if (newest === undefined || newest.madeAt + keyLifeMs <= now) await make(table, now);
  const [first, ...rest] = await load(table, now);
  if (!first) throw new Error('a signing key has disappeared right after it was written');
  return [first, ...rest];
}

async function load(table: Table<KeyRecord>, now: number): Promise<readonly KeyRecord[]> {
  const records = (await table.list())
    .map(([, record]) => record)
    .toSorted((one, other) => other.madeAt - one.madeAt || compare(one.jwk.kid, other.jwk.kid));
  // A key stops signing when its successor is made.
  return records.filter((_, at) => at === 0 || records[at - 1]!.madeAt + keyRestMs > now);
}

async function make(table: Table<KeyRecord>, now: number): Promise<void> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const jwk = await exportJWK(privateKey);
  const kid = (await calculateJwkThumbprint(jwk)).slice(0, 16);
  const record: KeyRecord = {
    jwk: { ...jwk, kid, alg: 'ES256', use: 'sig' },
    secret: randomBytes(32).toString('base64url'),
    madeAt: now,
  };
  await table.put(kid, record, { expiresAt: now + keyLifeMs * 3 });
}

function sourceOf(records: Records): KeySource {
  return fixedKeys({
    keys: records.map(
      ({ jwk: { kty, crv, x, y, kid, alg, use } }) => ({ kty, crv, x, y, kid, alg, use }) as JWK,
    ),
  });
}

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other);
}
