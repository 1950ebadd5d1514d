import { setMaxListeners } from 'node:events';

/**
 * Calls `listener` once when `signal` aborts, at once if it has aborted already. Returns the function that removes the
 * listener; calling it again does nothing.
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  if (signal.aborted) {
    listener();
    return () => {};
  }
  // Many wait for one signal; Node 20 would print a warning about the eleventh.
  setMaxListeners(0, signal);
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/**
 * A signal that aborts with `signal`, and after `ms` milliseconds at the latest. Does not keep the process alive.
 * `AbortSignal.any` with `AbortSignal.timeout` would say the same; on Node 20 the timeout is garbage-collected, and on 22 it can be.
 */
export function deadlineSignal(signal: AbortSignal, ms: number): AbortSignal {
  const deadline = new AbortController();
  const abort = (): void => {
    clearTimeout(timer);
    removeListener();
    deadline.abort();
  };
  if (signal.aborted) {
    deadline.abort();
    return deadline.signal;
  }
  const timer = setTimeout(abort, ms);
  timer.unref();
  const removeListener = onAbort(signal, abort);
  return deadline.signal;
}

/** How `withDeadline` fails when time runs out. */
export interface DeadlineOptions {
  /** Makes the error for the end of the time; the default is a `DOMException` named `TimeoutError`. */
  readonly onTimeout?: () => Error;
  /** Makes the error for the abort of the outer signal; the default is its reason. */
  readonly onAborted?: () => Error;
}

/**
 * Runs `work` with a signal that aborts when `signal` does, or after `ms` milliseconds, and settles no later than that, even
 * where `work` ignores its signal. Rejects with the reason of `signal`, with a `TimeoutError`, or with what the options
 * make of them. Leaves neither a timer nor a listener behind; what a late `work` still opens, `work` itself must close.
 */
export async function withDeadline<T>(
  signal: AbortSignal | undefined,
  ms: number,
  work: (signal: AbortSignal) => PromiseLike<T> | T,
  { onTimeout, onAborted }: DeadlineOptions = {},
): Promise<T> {
  // Node 20, which the client supports, has no `Promise.withResolvers`.
  let reject!: (error: unknown) => void;
  const failed = new Promise<never>((_resolve, onRejected) => (reject = onRejected));
  const deadline = new AbortController();
  const fail = (error: unknown): void => {
    reject(error);
    deadline.abort(error);
  };
  const abort = (): void => fail(onAborted?.() ?? signal?.reason);
  if (signal?.aborted) throw (onAborted?.() ?? signal.reason) as Error;
  const timer = setTimeout(
    () => fail(onTimeout?.() ?? new DOMException(`nothing within ${ms} ms`, 'TimeoutError')),
    ms,
  );
  const removeListener = signal && onAbort(signal, abort);
  // It has no other listener when `work` settles first.
  failed.catch(() => {});
  try {
    return await Promise.race([work(deadline.signal), failed]);
  } finally {
    clearTimeout(timer);
    removeListener?.();
  }
}
