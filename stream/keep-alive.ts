/** Under every default idle timer of the proxies on the way (nginx: 60 s, Squid and load balancers: 60 s and more). */
export const keepAliveMs = 25_000;

/**
 * Calls `beat` about every `intervalMs`, a little earlier or later each time so that many tunnels do not beat
 * together. Does not keep the process alive. Returns what stops it.
 */
export function everyInterval(intervalMs: number, beat: () => void): () => void {
  let timer: NodeJS.Timeout;
  const next = (): void => {
    timer = setTimeout(
      () => {
        next();
        beat();
      },
      intervalMs * (0.8 + 0.2 * Math.random()),
    );
    timer.unref();
  };
  next();
  return () => clearTimeout(timer);
}
