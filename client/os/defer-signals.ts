import { constants } from 'node:os';

const deadly = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

/**
 * Runs `work` to its end even when a signal tells this process to exit, and exits then. For steps that must not stop
 * halfway, like using a token that can be used once.
 */
export async function deferSignals<T>(work: () => Promise<T>): Promise<T> {
  let received: (typeof deadly)[number] | undefined;
  const note = (signal: NodeJS.Signals): void => void (received ??= signal as (typeof deadly)[number]);
  for (const signal of deadly) process.on(signal, note);
  try {
    return await work();
  } finally {
    for (const signal of deadly) process.off(signal, note);
    if (received !== undefined) process.exit(128 + constants.signals[received]);
  }
}
