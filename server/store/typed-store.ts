import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { TunnelError } from '../../protocol/errors.ts';
import type { Row, StoreEngine } from './engine.ts';
import type { PutOptions, Seen, Store, Table, TableName, TableOptions } from './store.ts';

/** The tables with their types, over an engine that stores rows. */
export class TypedStore implements Store {
  readonly #engine: StoreEngine;

  /** The store owns the engine, and closes it. */
  constructor(engine: StoreEngine) {
    this.#engine = engine;
  }

  get failure(): string | undefined {
    return this.#engine.failure;
  }

  table<T>(name: TableName, schema: z.ZodType<T>, options: TableOptions = {}): Table<T> {
    return new TypedTable(this.#engine, name, schema, options);
  }

  seen(): Promise<Seen> {
    return this.#engine.seen();
  }

  close(): Promise<void> {
    return this.#engine.close();
  }
}

class TypedTable<T> implements Table<T> {
  readonly #engine: StoreEngine;
  readonly #name: TableName;
  readonly #schema: z.ZodType<T>;
  readonly #version: number;
  readonly #upgrade: TableOptions['upgrade'];

  constructor(
    engine: StoreEngine,
    name: TableName,
    schema: z.ZodType<T>,
    { version = 1, upgrade }: TableOptions,
  ) {
    this.#engine = engine;
    this.#name = name;
    this.#schema = schema;
    this.#version = version;
    this.#upgrade = upgrade;
  }

  async get(key: string): Promise<T | undefined> {
    const row = await this.#engine.read(this.#name, key);
    return row && this.#parse(row, key).value;
  }

  async put(key: string, value: T, options?: PutOptions): Promise<void> {
    await this.#engine.change(this.#name, key, () => this.#newRow(value, options));
  }

  async add(key: string, value: T, options?: PutOptions): Promise<boolean> {
    let isFree = false;
    await this.#engine.change(this.#name, key, (row) => {
      isFree = row === undefined;
      return row ?? this.#newRow(value, options);
    });
    return isFree;
  }

  async take(key: string): Promise<T | undefined> {
    let value: T | undefined;
    await this.#engine.change(this.#name, key, (row) => {
      value = row && this.#parse(row, key).value;
      return undefined;
    });
    return value;
  }

  async update(
    key: string,
    change: (value: T | undefined) => T | undefined,
    options: PutOptions = {},
  ): Promise<T | undefined> {
    let next: T | undefined;
    await this.#engine.change(this.#name, key, (row) => {
      const found = row && this.#parse(row, key);
      next = change(found?.value);
      if (next === undefined || !row || !found)
        return next === undefined ? undefined : this.#newRow(next, options);
      const { expiresAt = row.expiresAt } = options;
      if (next === found.value && expiresAt === row.expiresAt) return row;
      const value = withUnknownFields(next, found);
      return { value, version: Math.max(row.version, this.#version), expiresAt };
    });
    return next;
  }

  async delete(key: string): Promise<void> {
    await this.#engine.change(this.#name, key, () => undefined);
  }

  async list(
    onDamaged = (error: Error, _key: string): void => {
      throw error;
    },
  ): Promise<readonly (readonly [key: string, value: T])[]> {
    const rows = await this.#engine.list(this.#name);
    return rows.flatMap(([key, row]) => {
      try {
        return [[key, this.#parse(row, key).value] as const];
      } catch (error) {
        onDamaged(error as Error, key);
        return [];
      }
    });
  }

  watch(onChange: () => void): () => void {
    return this.#engine.watch(this.#name, onChange);
  }

  #newRow(value: T, { expiresAt }: PutOptions = {}): Row {
    return { value, version: this.#version, expiresAt };
  }

  #parse({ value, version }: Row, key: string): Parsed<T> {
    const stored = version < this.#version && this.#upgrade ? this.#upgrade(value, version) : value;
    const result = this.#schema.safeParse(stored);
    if (result.success) return { stored, value: result.data };
    // Values are left out: they hold secrets.
    const fields = result.error.issues.map(({ path }) => path.join('.')).join(', ');
    const writer = version > this.#version ? ' (a newer gateway has written it)' : '';
    throw new TunnelError(
      'STORE_UNAVAILABLE',
      `the store has a row in ${this.#name} that this gateway cannot read, ${nameOfRow(key)}${writer}: ${fields || 'the whole value'}`,
      { cause: result.error },
    );
  }
}

/** Keys can be secrets too; their hash finds the row for an operator who has the file. */
function nameOfRow(key: string): string {
  return `key with SHA-256 ${createHash('sha256').update(key).digest('hex').slice(0, 12)}`;
}

interface Parsed<T> {
  /** As it was stored, unknown fields included. */
  readonly stored: unknown;
  readonly value: T;
}

/**
 * `next` with the fields of the stored row that the schema does not know. A field that `next` has unchanged is stored as it
 * was, with all that is in it; a field with a new value is replaced as a whole.
 */
function withUnknownFields<T>(next: T, { stored, value }: Parsed<T>): unknown {
  if (!isObject(next) || !isObject(stored) || !isObject(value)) return next;
  const unknown = Object.entries(stored).filter(([name]) => !Object.hasOwn(value, name));
  const known = Object.entries(next).map(([name, field]) => {
    const isUnchanged = Object.hasOwn(stored, name) && field === value[name];
    return [name, isUnchanged ? stored[name] : field] as const;
  });
  return Object.fromEntries([...unknown, ...known]);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
