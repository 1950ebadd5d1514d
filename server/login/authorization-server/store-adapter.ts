import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';
import { z } from 'zod';
import type { PutOptions, Store, Table } from '../../store/store.ts';

export interface AdapterOptions {
  /** Called for each grant that ends before its time, whatever ended it; the revocation is durable when this resolves. */
  readonly onGrantEnded: (grantId: string) => Promise<void>;
  /** Makes the error for something that is valid once and was used twice at the same time. */
  readonly onReplay: () => Error;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** What a model of oidc-provider has in a row is its own business. */
const payloadSchema = z.custom<AdapterPayload>((value) => typeof value === 'object' && value !== null);
/** Names of rows, as `Model:id`. */
const rowNames = z.array(z.string()).readonly();

/** The rows of a model of oidc-provider. */
export function modelTable(store: Store, model: string): Table<AdapterPayload> {
  return store.table(`oidc.${model}`, payloadSchema);
}

/** The ids of a model's rows by another field of theirs. */
export function modelIndex(store: Store, model: string, field: 'uid' | 'userCode'): Table<string> {
  return store.table(`oidc.${model}.${field}`, z.string());
}

/** Keeps what the authorization server remembers in the store, so that sign-ins survive a restart. */
export function storeAdapter(
  store: Store,
  { onGrantEnded, onReplay, now = Date.now }: AdapterOptions,
): AdapterFactory {
  return (model): Adapter => {
    const table = modelTable(store, model);

    async function findBy(field: 'uid' | 'userCode', value: string): Promise<AdapterPayload | undefined> {
      const id = await modelIndex(store, model, field).get(value);
      return id === undefined ? undefined : table.get(id);
    }

    async function index(
      id: string,
      { uid, userCode, grantId }: AdapterPayload,
      options: PutOptions,
    ): Promise<void> {
      if (uid !== undefined) await modelIndex(store, model, 'uid').put(uid, id, options);
      if (userCode !== undefined) await modelIndex(store, model, 'userCode').put(userCode, id, options);
      if (grantId !== undefined && model !== 'Interaction')
        await rowsOfGrant(store).update(grantId, (names) => withName(names, `${model}:${id}`), options);
    }

    return {
      async upsert(id, payload, expiresIn) {
        const options = expiresIn === undefined ? {} : { expiresAt: now() + expiresIn * 1000 };
        if (model === 'ReplayDetection') {
          // Of two requests at the same time, one adds it.
          if (!(await table.add(id, payload, options))) throw onReplay();
          return;
        }
        await table.put(id, payload, options);
        await index(id, payload, options);
      },
      find: (id) => table.get(id),
      findByUid: (uid) => findBy('uid', uid),
      findByUserCode: (userCode) => findBy('userCode', userCode),
      async consume(id) {
        let isReplay = false;
        const marked = await table.update(id, (payload) => {
          isReplay = payload?.consumed !== undefined;
          return payload && { ...payload, consumed: payload.consumed ?? Math.floor(now() / 1000) };
        });
        if (isReplay || marked === undefined) throw onReplay();
      },
      async destroy(id) {
        await table.delete(id);
        if (model === 'Grant') await onGrantEnded(id);
      },
      revokeByGrantId: (grantId) => forgetGrant(store, grantId),
    };
  };
}

/** Forgets every code and token of a grant; the grant itself stays. */
export async function forgetGrant(store: Store, grantId: string): Promise<void> {
  for (const name of (await rowsOfGrant(store).take(grantId)) ?? []) {
    const end = name.indexOf(':');
    await modelTable(store, name.slice(0, end)).delete(name.slice(end + 1));
  }
}

function rowsOfGrant(store: Store): Table<readonly string[]> {
  return store.table('rowsOfGrant', rowNames);
}

function withName(names: readonly string[] = [], name: string): readonly string[] {
  return names.includes(name) ? names : [...names, name];
}
