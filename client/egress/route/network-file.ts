import { join } from 'node:path';
import { readSmall, writePrivate } from '../../os/files.ts';
import { networkId } from '../../os/network-id.ts';

const maxNetworks = 32;
const maxBytes = 256 * 1024;

/** The keys of the file, which processes of other versions read and write too. */
export const keys = { routes: 'verdicts', lastCas: 'vouchers', pacError: 'trouble' } as const;

export interface StoredRoute {
  readonly source: string;
  readonly why: string;
  readonly steps: readonly string[];
  readonly [keys.pacError]?: string;
  readonly until: number;
}

/** What is stored about one network. */
export interface Network {
  readonly [keys.routes]?: Readonly<Record<string, StoredRoute>>;
  /** Time of expiry by the name of the proxy, in milliseconds since the epoch. */
  readonly dead?: Readonly<Record<string, number>>;
  readonly systemTrustUntil?: number;
  /** By host. */
  readonly [keys.lastCas]?: Readonly<Record<string, StoredCa>>;
}

interface StoredCa {
  readonly fingerprint: string;
  readonly until: number;
}

type Networks = Readonly<Record<string, Network>>;

/** `ways.json` under the state directory: facts by network. A file that cannot be read or written is treated as absent. */
export class NetworkFile {
  readonly #path: string | undefined;

  constructor(state: string | undefined) {
    this.#path = state === undefined ? undefined : join(state, 'ways.json');
  }

  /** The facts of the network this machine is in. Without a file, that network need not be identified. */
  current(): Network {
    const networks = this.#path === undefined ? undefined : load(this.#path);
    return networks?.[networkId()] ?? {};
  }

  change(how: (network: Network) => Network): void {
    if (this.#path === undefined) return;
    const id = networkId();
    const { [id]: before = {}, ...others } = load(this.#path) ?? {};
    const kept = Object.entries(others).slice(1 - maxNetworks);
    const networks = Object.fromEntries([...kept, [id, how(before)]]);
    try {
      writePrivate(this.#path, `${JSON.stringify({ version: 1, networks })}\n`);
    } catch {
      // A home directory that cannot be written: the next process finds it out again.
    }
  }
}

function load(path: string): Networks | undefined {
  try {
    const value: unknown = JSON.parse(readSmall(path, maxBytes).bytes.toString());
    const { version, networks } = (value ?? {}) as { version?: unknown; networks?: unknown };
    if (version !== 1 || typeof networks !== 'object' || networks === null) return undefined;
    const all = Object.entries(networks).filter(([, each]) => typeof each === 'object' && each !== null);
    return Object.fromEntries(all);
  } catch {
    return undefined;
  }
}
