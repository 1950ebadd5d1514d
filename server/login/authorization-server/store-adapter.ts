import type { Adapter, AdapterFactory, AdapterPayload } from 'oidc-provider';
import { z } from 'zod';
import type { PutOptions, Store, Table } from '../../store/store.ts';

export interface AdapterOptions {
  /** Called for each grant that ends before its time, whatever ended it; the revocation is durable when this resolves. */
  readonly onGrantEnded: (grantId: string) => Promise<void>;
  /** Makes the error for something that is valid once and was used twice at the same time. */
  readonly onReplay: () => Error;
  /** Makes the error for a request with parameters that are too long to keep. */
  readonly onTooLong?: () => Error;
  /** Looks up the code that a person has typed by `find`; counts those that are wrong. */
  readonly lookUpCode?: <T>(find: () => Promise<T | undefined>) => Promise<T | undefined>;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * The parameters of a request stay with it for minutes, on disk, though its sender has not signed in. Those of a client
 * have some 400 characters.
 */
const maxParameterCharacters = 2048;

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
export function storeAdapter(store: Store, options: AdapterOptions): AdapterFactory {
  return (model) => new StoreAdapter(store, model, options);
}

class StoreAdapter implements Adapter {
  readonly #store: Store;
  readonly #model: string;
  readonly #options: AdapterOptions;
  readonly #table: Table<AdapterPayload>;

  constructor(store: Store, model: string, options: AdapterOptions) {
    this.#store = store;
    this.#model = model;
    this.#options = options;
    this.#table = modelTable(store, model);
  }

  async upsert(id: string, payload: AdapterPayload, expiresIn?: number): Promise<void> {
    const options = expiresIn === undefined ? {} : { expiresAt: this.#now() + expiresIn * 1000 };
    if (this.#model === 'ReplayDetection') {
      // Of two requests at the same time, one adds it.
      if (!(await this.#table.add(id, payload, options))) throw this.#options.onReplay();
      return;
    }
    if (JSON.stringify(payload.params ?? {}).length > maxParameterCharacters)
      throw this.#options.onTooLong?.() ?? new RangeError('parameters that are too long');
    await this.#table.put(id, payload, options);
    await this.#index(id, payload, options);
  }

  find(id: string): Promise<AdapterPayload | undefined> {
    return this.#table.get(id);
  }

  findByUid(uid: string): Promise<AdapterPayload | undefined> {
    return this.#findBy('uid', uid);
  }

  findByUserCode(userCode: string): Promise<AdapterPayload | undefined> {
    const find = (): Promise<AdapterPayload | undefined> => this.#findBy('userCode', userCode);
    return this.#options.lookUpCode?.(find) ?? find();
  }

  async consume(id: string): Promise<void> {
    let isReplay = false;
    const marked = await this.#table.update(id, (payload) => {
      isReplay = payload?.consumed !== undefined;
      return payload && { ...payload, consumed: payload.consumed ?? Math.floor(this.#now() / 1000) };
    });
    if (isReplay || marked === undefined) throw this.#options.onReplay();
  }

  async destroy(id: string): Promise<void> {
    await this.#table.delete(id);
    if (this.#model === 'Grant') await this.#options.onGrantEnded(id);
  }

  revokeByGrantId(grantId: string): Promise<void> {
    return forgetGrant(this.#store, grantId);
  }

  async #findBy(field: 'uid' | 'userCode', value: string): Promise<AdapterPayload | undefined> {
    const id = await modelIndex(this.#store, this.#model, field).get(value);
    return id === undefined ? undefined : this.#table.get(id);
  }

  async #index(id: string, payload: AdapterPayload, options: PutOptions): Promise<void> {
    const { uid, userCode, grantId } = payload;
    if (uid !== undefined) await modelIndex(this.#store, this.#model, 'uid').put(uid, id, options);
    if (userCode !== undefined)
      await modelIndex(this.#store, this.#model, 'userCode').put(userCode, id, options);
    if (grantId === undefined || this.#model === 'Interaction') return;
    const name = `${this.#model}:${id}`;
    await rowsOfGrant(this.#store).update(grantId, (names) => withName(names, name), options);
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }
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
