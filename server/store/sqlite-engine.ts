import { Worker } from 'node:worker_threads';
import { TunnelError } from '../../protocol/errors.ts';
import type { Row, StoreEngine } from './engine.ts';
import { locationOf } from './sqlite-layout.ts';
import type { StoredRow } from './sqlite-rows.ts';
import { unusable } from './sqlite.ts';
import type { Seen, TableName } from './store.ts';
import type { ThreadCall, ThreadData, ThreadMessage, ThreadRequest } from './thread-messages.ts';

const sweepMs = 60_000;
/** Requests beyond this are refused at once. */
const maxPending = 5000;
/** The thread gives up a lock after 5 s; what takes longer is a disk that does not answer. */
const answerMs = 8000;
/** A write that takes longer than this is reported. */
const slowMs = 2000;
const lookMs = 500;
const probeMs = 1000;
const closeMs = 5000;

export interface EngineOptions {
  /** Called with a sentence for the log: the file has been replaced, or cannot be written. */
  readonly onNotice?: ((text: string) => void) | undefined;
}

interface Pending {
  readonly call: ThreadCall;
  readonly since: number;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/**
 * Opens the engine of one machine: a file of SQLite, made with mode 0600 where there is none. Several processes can have it
 * open. All its methods reject with `STORE_UNAVAILABLE` when others can read it, it is damaged, or it cannot be written.
 * `now` is the wall clock, in milliseconds since 1970.
 */
export function openSqliteEngine(
  file: string,
  now: () => number = Date.now,
  options: EngineOptions = {},
): SqliteEngine {
  return new SqliteEngine(file, now, options);
}

/** The file is open in a thread of its own, so that no disk and no lock of another process can hold the event loop. */
class SqliteEngine implements StoreEngine {
  readonly opened: Promise<void>;
  readonly #file: string;
  readonly #now: () => number;
  readonly #options: EngineOptions;
  readonly #thread: Worker;
  readonly #pending = new Map<number, Pending>();
  /** By the name in SQLite, which several tables can share. */
  readonly #watchers = new Map<string, Set<() => void>>();
  readonly #timers: readonly NodeJS.Timeout[];
  #ids = 0;
  #failure: string | undefined;
  #ended: Error | undefined;
  #probedAt = -Infinity;

  constructor(file: string, now: () => number, options: EngineOptions) {
    this.#file = file;
    this.#now = now;
    this.#options = options;
    // A test has a clock of its own.
    const workerData: ThreadData = now === Date.now ? { file } : { file, now: now() };
    // Built, it is a file of JavaScript; what this process was started with is not for it.
    const entry = new URL(import.meta.url.replace(/sqlite-engine(\.[jt]s)$/, 'sqlite-thread$1'));
    this.#thread = new Worker(entry, { workerData, execArgv: [], name: 'store' });
    const opened = Promise.withResolvers<void>();
    this.opened = opened.promise;
    // Reported by each request too.
    opened.promise.catch(() => {});
    this.#thread.on('message', (message: ThreadMessage) => {
      if (message.kind === 'open') opened.resolve();
      else if (message.kind === 'notOpen') opened.reject(this.#end(message.message));
      else this.#receive(message);
    });
    this.#thread.on('error', (cause) => opened.reject(this.#end(undefined, cause)));
    this.#thread.on('exit', () => opened.reject(this.#end()));
    this.#timers = [
      setInterval(() => void this.#request({ kind: 'sweep' }).catch(() => {}), sweepMs).unref(),
      setInterval(() => this.#look(), lookMs).unref(),
    ];
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  async read(table: TableName, key: string): Promise<Row | undefined> {
    const row = (await this.#request({ kind: 'read', table, key })) as StoredRow | undefined;
    return row && rowOf(row);
  }

  /** Compare and set: the row is read, changed here, and written if it is still the same. */
  async change(
    table: TableName,
    key: string,
    change: (row: Row | undefined) => Row | undefined,
  ): Promise<void> {
    for (;;) {
      const expected = (await this.#request({ kind: 'read', table, key })) as StoredRow | undefined;
      const before = expected && rowOf(expected);
      const after = change(before);
      if (after === before) return;
      const next = after && storedOf(after);
      if (await this.#request({ kind: 'replace', table, key, expected, next })) return;
    }
  }

  async list(table: TableName): Promise<readonly (readonly [key: string, row: Row])[]> {
    const rows = (await this.#request({ kind: 'list', table })) as readonly (readonly [string, StoredRow])[];
    return rows.map(([key, row]) => [key, rowOf(row)] as const);
  }

  watch(table: TableName, onChange: () => void): () => void {
    const { name } = locationOf(table);
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(onChange));
    return () => void watchers.delete(onChange);
  }

  async seen(): Promise<Seen> {
    await this.#request({ kind: 'openSeen' });
    return {
      add: async (key, expiresAt) => (await this.#request({ kind: 'seen', key, expiresAt })) as boolean,
    };
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    if (!this.#ended) {
      const closed = this.#request({ kind: 'close' }).catch(() => {});
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([closed, new Promise((resolve) => (timer = setTimeout(resolve, closeMs)))]);
      clearTimeout(timer);
      this.#end(`the store ${this.#file} is closed`);
    }
    // Otherwise a process with nothing else to do ends here.
    this.#thread.ref();
    await this.#thread.terminate();
  }

  async #request(call: ThreadCall): Promise<unknown> {
    if (this.#ended) throw this.#ended;
    if (this.#pending.size >= maxPending) throw this.#error('too many requests are waiting for it');
    const id = ++this.#ids;
    const result = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, { call, since: performance.now(), resolve, reject });
    });
    // Only a request keeps the process alive.
    this.#thread.ref();
    const request: ThreadRequest = { id, now: this.#now(), ...call };
    this.#thread.postMessage(request, []);
    return result;
  }

  #receive(message: Exclude<ThreadMessage, { readonly kind: 'open' | 'notOpen' }>): void {
    if (message.kind === 'changed') return this.#callWatchers(message.names);
    if (message.kind === 'notice') return this.#options.onNotice?.(message.text);
    if (message.kind === 'failing') return this.#fail(message.reason);
    const pending = this.#forget(message.id);
    if (message.kind === 'failed') {
      if (pending && isWrite(pending.call)) this.#fail(message.message);
      pending?.reject(new TunnelError('STORE_UNAVAILABLE', message.message));
    } else {
      if (pending && isWrite(pending.call)) this.#recover();
      pending?.resolve(message.result);
    }
  }

  #forget(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#thread.unref();
    return pending;
  }

  #callWatchers(names: readonly string[] | undefined): void {
    for (const name of names ?? this.#watchers.keys())
      for (const onChange of this.#watchers.get(name) ?? []) onChange();
  }

  /** Finds a disk that does not answer, and the end of a failure. */
  #look(): void {
    const now = performance.now();
    for (const [id, { call, since }] of this.#pending) {
      if (now - since < slowMs) break;
      const error = this.#error(
        'it takes too long: the disk does not answer, or another process has locked it',
      );
      if (isWrite(call)) this.#fail(error.message);
      // The outcome of a write is unknown, as when the machine fails.
      if (now - since >= answerMs) this.#forget(id)?.reject(error);
    }
    const isProbing = [...this.#pending.values()].some(({ call }) => call.kind === 'probe');
    if (this.#failure === undefined || isProbing || now - this.#probedAt < probeMs) return;
    this.#probedAt = now;
    void this.#request({ kind: 'probe' }).catch(() => {});
  }

  #fail(reason: string): void {
    if (this.#failure === undefined) this.#options.onNotice?.(`the store cannot be written: ${reason}`);
    this.#failure = reason;
  }

  #recover(): void {
    if (this.#failure !== undefined) this.#options.onNotice?.('the store can be written again');
    this.#failure = undefined;
  }

  /** Rejects what is waiting, and everything from now on. */
  #end(message = `the store ${this.#file} cannot be used: its thread has ended`, cause?: unknown): Error {
    this.#ended ??= new TunnelError('STORE_UNAVAILABLE', message, { cause });
    this.#failure ??= this.#ended.message;
    for (const pending of this.#pending.values()) pending.reject(this.#ended);
    this.#pending.clear();
    return this.#ended;
  }

  #error(why: string): Error {
    return unusable(this.#file, why);
  }
}

function isWrite({ kind }: ThreadCall): boolean {
  return kind === 'replace' || kind === 'probe' || kind === 'sweep';
}

function storedOf({ value, version, expiresAt }: Row): StoredRow {
  return {
    value: JSON.stringify(value),
    version,
    expiresAt: expiresAt === undefined ? null : Math.ceil(expiresAt),
  };
}

function rowOf({ value, version, expiresAt }: StoredRow): Row {
  const row = { version, expiresAt: expiresAt ?? undefined };
  try {
    return { ...row, value: JSON.parse(value) as unknown };
  } catch {
    return { ...row, value: undefined };
  }
}
