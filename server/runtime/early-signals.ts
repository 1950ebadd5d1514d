type EarlySignal = 'SIGHUP' | 'SIGUSR1' | 'SIGUSR2';

const lookMs = 50;
const maxLooks = 200;

const waiting = new Map<EarlySignal, { readonly listener: () => void; readonly came: () => boolean }>();

/**
 * Keeps the signals that a running gateway acts on until it can: by default they would end a process that is starting, and
 * SIGUSR1 would open the debugger of Node.js, in which every user of the machine can run code. To be called first of all.
 */
export function holdSignals(env: NodeJS.ProcessEnv): void {
  for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const) {
    let hasCome = false;
    const listener = (): void => {
      hasCome = true;
    };
    process.on(signal, listener);
    waiting.set(signal, { listener, came: () => hasCome });
  }
  let looks = 0;
  const looking = setInterval(() => {
    closeUnaskedDebugger(env);
    if (++looks === maxLooks) clearInterval(looking);
  }, lookMs).unref();
}

/** Calls the listener for each such signal from now on, and soon if one has come already. */
export function onSignal(signal: EarlySignal, listener: () => void): void {
  process.on(signal, () => listener());
  const held = waiting.get(signal);
  if (!held) return;
  waiting.delete(signal);
  process.removeListener(signal, held.listener);
  if (held.came()) setImmediate(listener);
}

/** One that a signal has asked for before the first line of the program: it opens some time later. */
function closeUnaskedDebugger(env: NodeJS.ProcessEnv): void {
  const { url, close } = process.getBuiltinModule('node:inspector');
  const options = [...process.execArgv, env['NODE_OPTIONS'] ?? ''].join(' ');
  if (!/--inspect(?!-port|-publish)/.test(options) && url() !== undefined) close();
}
