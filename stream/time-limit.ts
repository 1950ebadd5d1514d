/**
 * A signal that aborts with `signal`, and after `ms` at the latest. Does not keep the process alive.
 * `AbortSignal.any` with `AbortSignal.timeout` would say the same; on Node 20 the collector takes the timeout away, and on 22 it may.
 */
export function timeLimit(signal: AbortSignal, ms: number): AbortSignal {
  const limit = new AbortController();
  if (signal.aborted) {
    limit.abort();
    return limit.signal;
  }
  const abort = (): void => {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    limit.abort();
  };
  const timer = setTimeout(abort, ms);
  timer.unref();
  signal.addEventListener('abort', abort);
  return limit.signal;
}
