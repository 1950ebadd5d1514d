import { networkInterfaces } from 'node:os';

export interface SurroundingsListener {
  /** The clock has moved on without us: the machine, or this process, was asleep. */
  onWake(): void;
  /** The addresses of this machine have changed. */
  onNetworkChange(): void;
}

const lookMs = 1000;
/** Later than this is more than a busy machine. */
const asleepMs = 5000;
/** The list of addresses costs a little; a change that is noticed some seconds later is early enough. */
const looksPerList = 3;

export interface NetworkMonitor {
  /** Looks at once whether the addresses have changed since the last look; the listener is not told of it. */
  hasMoved(): boolean;
  stop(): void;
}

/** Watches for what connections do not survive without telling. Does not keep the process alive. */
export function watchSurroundings(listener: SurroundingsListener): NetworkMonitor {
  let lastLookAt = Date.now();
  let looks = 0;
  let addresses = currentAddresses();
  const hasMoved = (): boolean => {
    const before = addresses;
    addresses = currentAddresses();
    return addresses !== before;
  };
  const look = (): void => {
    const now = Date.now();
    const slept = now - lastLookAt > lookMs + asleepMs;
    lastLookAt = now;
    if (slept) listener.onWake();
    if (!slept && ++looks % looksPerList !== 0) return;
    if (hasMoved()) listener.onNetworkChange();
  };
  const timer = setInterval(look, lookMs);
  timer.unref();
  return { hasMoved, stop: () => clearInterval(timer) };
}

/** One text that changes whenever an address does. */
function currentAddresses(): string {
  try {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal }) => !internal)
      .map(({ address }) => address)
      .toSorted()
      .join(' ');
  } catch {
    // Some sandboxes do not tell.
    return '';
  }
}
