import { onAbort } from './deadline.ts';

/** Work that goes on before what begins: `begun` before `resume`, and of these three before each `open`. */
export type WorkKind = 'begun' | 'resume' | 'open';

export interface WorkPacerOptions {
  /** How long such work can take in one turn of the event loop, in milliseconds; one piece more is always possible. */
  readonly budgetMs?: number;
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
  /** Called with the time that a caller has waited, in milliseconds. */
  readonly onWaited?: (ms: number) => void;
}

/** About what a person does not notice; a request takes less than one. */
const defaultBudgetMs = 5;
/** Resumes in a row while others wait to open a tunnel. */
const resumesInARow = 3;

/**
 * Divides work that comes all at once among turns of the event loop, so that what else there is to do has its turn between.
 * While the budget of a turn lasts and none waits, work is done at once; the rest waits, and holders are served one after the other.
 */
export class WorkPacer {
  readonly #budgetMs: number;
  readonly #now: () => number;
  readonly #onWaited: ((ms: number) => void) | undefined;
  readonly #lines: Readonly<Record<WorkKind, Line>> = {
    begun: new Line(),
    resume: new Line(),
    open: new Line(),
  };
  #startedAt: number | undefined;
  #resumes = 0;

  constructor({
    budgetMs = defaultBudgetMs,
    now = () => performance.now(),
    onWaited,
  }: WorkPacerOptions = {}) {
    this.#budgetMs = budgetMs;
    this.#now = now;
    this.#onWaited = onWaited;
  }

  /** How many callers wait. */
  get waiting(): number {
    const { begun, resume, open } = this.#lines;
    return begun.size + resume.size + open.size;
  }

  /** Whether the budget of this turn is spent. It counts from the first question, or the first work, of the turn. */
  get isSpent(): boolean {
    return this.#begin() >= this.#budgetMs;
  }

  /**
   * Undefined when the caller can go on at once; else resolves when it has its turn, and rejects with the reason of `signal`
   * when that aborts first.
   */
  take(kind: WorkKind, holder: string, signal: AbortSignal): Promise<void> | undefined {
    if (this.waiting === 0 && !this.isSpent) return undefined;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      const since = this.#now();
      const remove = this.#lines[kind].add(holder, () => {
        removeListener();
        this.#onWaited?.(this.#now() - since);
        resolve();
      });
      const removeListener = onAbort(signal, () => {
        remove();
        reject(signal.reason as Error);
      });
      this.#begin();
    });
  }

  /** The time since this turn began, which it does now if it has not. */
  #begin(): number {
    const now = this.#now();
    if (this.#startedAt === undefined) {
      this.#startedAt = now;
      // After all that is ready now, and before the kernel is asked for more.
      setImmediate(() => this.#next());
    }
    return now - this.#startedAt;
  }

  #next(): void {
    this.#startedAt = undefined;
    if (this.waiting === 0) return;
    this.#begin();
    this.#admit();
  }

  #admit(): void {
    if (this.isSpent) return;
    const next = this.#shift();
    if (next === undefined) return;
    next();
    // When it has done all that it does without waiting, promises that it has resolved included.
    queueMicrotask(() => process.nextTick(() => this.#admit()));
  }

  #shift(): (() => void) | undefined {
    const { begun, resume, open } = this.#lines;
    if (begun.size > 0) return begun.shift();
    if (resume.size > 0 && (open.size === 0 || this.#resumes < resumesInARow)) {
      this.#resumes++;
      return resume.shift();
    }
    this.#resumes = 0;
    return open.shift();
  }
}

/** Callers that wait, the first of each holder in turn. */
class Line {
  /** In insertion order, as the callers of each are; one that leaves is deleted in constant time. */
  readonly #holders = new Map<string, Set<() => void>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Returns the function by which the caller leaves. */
  add(holder: string, admit: () => void): () => void {
    const waiting = this.#holders.get(holder) ?? new Set();
    this.#holders.set(holder, waiting.add(admit));
    this.#size++;
    return () => this.#remove(holder, waiting, admit);
  }

  shift(): (() => void) | undefined {
    for (const [holder, waiting] of this.#holders) {
      const [next] = waiting;
      this.#remove(holder, waiting, next!);
      // At the end, after the others.
      if (this.#holders.delete(holder)) this.#holders.set(holder, waiting);
      return next;
    }
    return undefined;
  }

  #remove(holder: string, waiting: Set<() => void>, admit: () => void): void {
    if (!waiting.delete(admit)) return;
    this.#size--;
    if (waiting.size === 0) this.#holders.delete(holder);
  }
}
