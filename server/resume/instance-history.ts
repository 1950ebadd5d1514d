import { z } from 'zod';
import { TunnelError } from '../../protocol/errors.ts';
import type { Store } from '../store/store.ts';
import { tunnelNotFound } from './tunnel-locator.ts';
import type { TunnelLocator } from './tunnel-locator.ts';

/** More than the processes of a day, after which no tunnel is kept. */
const maxNames = 1000;
/** What a gateway can have given as a name; nothing else is one of another gateway. */
const namePattern = /^[\w-]{8,40}$/;
const historyRecord = z.object({ names: z.array(z.string()) });

/**
 * The instance names of the processes that this gateway has had. A tunnel of one that has ended is gone; one of a name
 * that is not here can be open at another gateway behind the same address, so that its client has to try again.
 */
export class InstanceHistory {
  readonly #table;
  readonly #gateway: string;

  /** `gateway`: distinguishes gateways that share a store, the same for all processes of one: its control socket. */
  constructor(store: Store, gateway: string) {
    this.#table = store.table('instances', historyRecord);
    this.#gateway = gateway;
  }

  /** Adds names of processes of this gateway. Rejects with `STORE_UNAVAILABLE`. */
  async remember(added: readonly string[]): Promise<void> {
    await this.#table.update(this.#gateway, (history = { names: [] }) => ({
      names: [...new Set([...history.names, ...added])].slice(-maxNames),
    }));
  }

  /**
   * The refusal for a tunnel of a process that is not there: `TUNNEL_GONE` when it was one of ours, `TUNNEL_UNREACHABLE`
   * when it was not, or the store cannot be read. Never rejects.
   */
  async refusal(instance: string): Promise<TunnelError> {
    if (!namePattern.test(instance)) return tunnelNotFound();
    const history = await this.#table.get(this.#gateway).catch(() => undefined);
    return history?.names.includes(instance) ? tunnelNotFound() : elsewhere();
  }

  /** Finds nothing: for a gateway of one process. */
  get locator(): TunnelLocator {
    return {
      find: async (sid) => {
        throw await this.refusal(instanceOf(sid));
      },
    };
  }
}

/** The name of the process that has made a tunnel, from its `sid`. */
export function instanceOf(sid: string): string {
  return sid.split('.', 1)[0] ?? '';
}

function elsewhere(): TunnelError {
  return new TunnelError(
    'TUNNEL_UNREACHABLE',
    'another gateway can have this session; this one does not know it',
  );
}
