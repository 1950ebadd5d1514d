import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';
import type { Store } from '../../store/store.ts';

export interface AdapterOptions {
  /** Told of each grant that ends before its time, whoever ended it; its revocation is durable when this resolves. */
  readonly onGrantEnded: (grantId: string) => Promise<void>;
  /** The error for something that may be used once and was used twice at the same moment. */
  readonly onReplay: () => Error;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Keeps what the authorization server remembers in the store, so that sign-ins survive a restart. */
export function storeAdapter(
  store: Store,
  { onGrantEnded, onReplay: usedTwice, now = Date.now }: AdapterOptions,
): AdapterFactory {
  return (model): Adapter => {
    const keyOf = (id: string): string => `${model}:${id}`;

    async function find(id: string): Promise<AdapterPayload | undefined> {
      return (await store.get('oauth', keyOf(id))) as AdapterPayload | undefined;
    }

    async function findBy(index: string): Promise<AdapterPayload | undefined> {
      const id = await store.get('oauth', index);
      return typeof id === 'string' ? find(id) : undefined;
    }

    async function index(key: string, id: string, payload: AdapterPayload, options: Expiry): Promise<void> {
      if (payload.uid !== undefined) await store.put('oauth', `${model}.uid:${payload.uid}`, id, options);
      if (payload.userCode !== undefined) {
        await store.put('oauth', `${model}.userCode:${payload.userCode}`, id, options);
      }
      if (payload.grantId !== undefined && model !== 'Interaction') {
        await store.update('oauth', grantKey(payload.grantId), (keys) => withKey(keys, key), options);
      }
    }

    return {
      async upsert(id, payload, expiresIn) {
        const options = expiresIn === undefined ? {} : { expiresAt: now() + expiresIn * 1000 };
        const key = keyOf(id);
        if (model === 'ReplayDetection') {
          // Two requests at the same moment: one of them adds it.
          if (!(await store.add('oauth', key, payload, options))) throw usedTwice();
          return;
        }
        await store.put('oauth', key, payload, options);
        await index(key, id, payload, options);
      },
      find,
      findByUid: (uid) => findBy(`${model}.uid:${uid}`),
      findByUserCode: (userCode) => findBy(`${model}.userCode:${userCode}`),
      async consume(id) {
        let twice = false;
        const mark = (value: unknown): unknown => {
          const payload = value as AdapterPayload | undefined;
          twice = payload?.consumed !== undefined;
          return payload && { ...payload, consumed: payload.consumed ?? Math.floor(now() / 1000) };
        };
        const marked = (await store.update('oauth', keyOf(id), mark)) as AdapterPayload | undefined;
        if (twice || marked === undefined) throw usedTwice();
      },
      async destroy(id) {
        await store.delete('oauth', keyOf(id));
        if (model === 'Grant') await onGrantEnded(id);
      },
      revokeByGrantId: (grantId) => forgetGrant(store, grantId),
    };
  };
}

/** Forgets every code and token of a grant; the grant itself stays. */
export async function forgetGrant(store: Store, grantId: string): Promise<void> {
  const keys = (await store.take('oauth', grantKey(grantId))) as readonly string[] | undefined;
  for (const key of keys ?? []) await store.delete('oauth', key);
}

interface Expiry {
  readonly expiresAt?: number;
}

function grantKey(grantId: string): string {
  return `grant:${grantId}`;
}

function withKey(keys: unknown, key: string): readonly string[] {
  const present = (keys ?? []) as readonly string[];
  return present.includes(key) ? present : [...present, key];
}
