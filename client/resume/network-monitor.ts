import { networkInterfaces } from 'node:os';

/** Receives the events that end connections without a sign on the connection itself. */
export interface NetworkListener {
  /** The clock has jumped: the machine was suspended, or this process stopped. */
  onWake(): void;
  /** The addresses of this machine have changed. */
  onNetworkChange(): void;
}

const tickMs = 1000;
/** A tick that is later than this is not explained by a busy machine. */
const asleepMs = 5000;
/** The list of addresses is read at every third tick only: it costs a little, and some seconds later is early enough. */
const ticksPerList = 3;

export interface NetworkMonitor {
  /** Checks now whether the addresses have changed since the last check; the listener is not called. */
  hasMoved(): boolean;
  stop(): void;
}

/** Watches for sleep and for changes of the network. Does not keep the process alive. */
export function watchNetwork(listener: NetworkListener): NetworkMonitor {
  let lastTickAt = Date.now();
  let ticks = 0;
  let addresses = currentAddresses();
  const hasMoved = (): boolean => {
    const before = addresses;
    addresses = currentAddresses();
    return addresses !== before;
  };
  const tick = (): void => {
    const now = Date.now();
    const slept = now - lastTickAt > tickMs + asleepMs;
    lastTickAt = now;
    if (slept) listener.onWake();
    if (!slept && ++ticks % ticksPerList !== 0) return;
    if (hasMoved()) listener.onNetworkChange();
  };
  const timer = setInterval(tick, tickMs);
  timer.unref();
  return { hasMoved, stop: () => clearInterval(timer) };
}

/** A text that changes whenever an address of this machine does. */
function currentAddresses(): string {
  try {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal }) => !internal)
      .map(({ address }) => address)
      .toSorted()
      .join(' ');
  } catch {
    // Some sandboxes do not allow it.
    return '';
  }
}
