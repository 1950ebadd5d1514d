import type { ChildProcess } from 'node:child_process';
import type { Logger } from 'pino';
import { onSignal } from '../runtime/early-signals.ts';

/** Reloads on SIGHUP, one reload after the other, however fast the signals come. */
export function onHangUp(reloadOnce: () => Promise<void>): void {
  let last = Promise.resolve();
  onSignal('SIGHUP', () => {
    last = last.then(reloadOnce);
  });
}

/**
 * Reopens files on SIGUSR1, after rotation. Node.js would open its debugger on that signal; with a listener it does not.
 */
export function onReopen(reopen: () => void): void {
  onSignal('SIGUSR1', reopen);
}

/**
 * Resolves with what asks the process to stop: SIGTERM, SIGINT, or an uncaught exception, after which the open tunnels
 * can end in peace but nothing new begins. A second one of any of them ends the process at once, after `beforeKill`.
 */
export function stopSignal(log: Logger, beforeKill = (): void => {}): Promise<string> {
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (cause: string): void => {
      // Not `process.exit()`, which waits for threads that are compiling.
      if (isStopping) {
        beforeKill();
        process.kill(process.pid, 'SIGKILL');
      }
      isStopping = true;
      resolve(cause);
    };
    process.on('SIGTERM', () => stop('SIGTERM'));
    process.on('SIGINT', () => stop('SIGINT'));
    process.on('uncaughtException', (error) => {
      log.fatal({ err: error }, 'uncaught exception');
      stop('uncaughtException');
    });
  });
}

/**
 * Resolves when an uncaught exception asks a worker to stop; the second one ends it at once. Signals are for its
 * supervisor: those that a terminal or a service manager sends to all processes are left to it.
 */
export function workerSignals(log: Logger): Promise<'uncaughtException'> {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const)
    process.on(signal, () => {});
  return new Promise((resolve) => {
    let hasFailed = false;
    process.on('uncaughtException', (error) => {
      log.fatal({ err: error }, 'uncaught exception');
      if (hasFailed) process.kill(process.pid, 'SIGKILL');
      hasFailed = true;
      resolve('uncaughtException');
    });
  });
}

/** A next process that has not taken over by then never will; its workers have five minutes to start on a slow machine. */
const upgradeMs = 15 * 60_000;

export interface UpgradeOptions {
  /** Returns none when a process has taken over already. */
  readonly start: () => ChildProcess | undefined;
  /** Resolves when a process has taken over. */
  readonly takenOver: Promise<void>;
}

/** Starts the next process on SIGUSR2, one at a time, and logs how that ended. */
export function onUpgrade(log: Logger, { start, takenOver }: UpgradeOptions): void {
  let running: ChildProcess | undefined;
  let hasTakenOver = false;
  onSignal('SIGUSR2', () => {
    if (running) return log.warn({ successor: running.pid }, 'the next process is starting already');
    const startedAt = performance.now();
    running = start();
    if (!running) return;
    const { pid } = running;
    log.info({ successor: pid }, 'starting the next process');
    const child = running;
    const timeout = setTimeout(() => !hasTakenOver && child.kill('SIGKILL'), upgradeMs).unref();
    const tookMs = (): number => Math.round(performance.now() - startedAt);
    const onTakenOver = (): void => {
      hasTakenOver = true;
      log.info(
        { successor: pid, tookMs: tookMs() },
        'the upgrade has succeeded: the next process has taken over',
      );
    };
    void takenOver.then(onTakenOver);
    const onFailed = (details: object, message: string): void => {
      running = undefined;
      clearTimeout(timeout);
      if (hasTakenOver) log.error(details, message);
      else
        log.error(
          { ...details, tookMs: tookMs() },
          `the upgrade has failed, this process goes on: ${message}`,
        );
    };
    running.once('error', (err) => onFailed({ err }, 'the next process cannot be started'));
    running.once('exit', (code, signal) =>
      onFailed({ successor: pid, code, signal }, 'the next process has ended'),
    );
  });
}
