import { formatTarget } from '../../protocol/target.ts';
import type { DetachedScope, OnTooManyDetached } from '../policy/limits.ts';
import type { SessionRecord, Sessions } from '../session/sessions.ts';

/** A tunnel that waits for its client, in any process of the gateway. */
export interface DetachedTunnel {
  readonly sessionId: string;
  /** When it lost its connection, in milliseconds since the epoch. */
  readonly since: number;
  /** Ends it, so that a newer one can have its place. */
  displace(): void;
}

export interface DisplacementOptions {
  readonly sessions: Pick<Sessions, 'records' | 'find'>;
  /** The detached tunnels of the other processes; those that do not answer have none. */
  readonly others?: ((scope: DetachedScope) => Promise<readonly DetachedTunnel[]>) | undefined;
}

/**
 * Makes the oldest detached tunnels of a scope give up their places, wherever in the gateway they are, so that `max` are left. For one
 * scope there is one search at a time: what comes meanwhile is one more search after it.
 */
export function displacement({ sessions, others }: DisplacementOptions): OnTooManyDetached {
  const running = new Map<string, { again: boolean; max: number }>();

  async function search(scope: DetachedScope, max: number): Promise<void> {
    const elsewhere = (await others?.(scope).catch(() => undefined)) ?? [];
    const all = [...detachedTunnels(sessions, scope), ...elsewhere];
    const oldest = all.toSorted((one, other) => one.since - other.since);
    for (const tunnel of oldest.slice(0, Math.max(0, all.length - max))) tunnel.displace();
  }

  return (scope, max) => {
    const key = JSON.stringify(scope);
    const waiting = running.get(key);
    if (waiting) {
      waiting.again = true;
      waiting.max = Math.min(waiting.max, max);
      return;
    }
    const state = { again: true, max };
    running.set(key, state);
    const run = async (): Promise<void> => {
      while (state.again) {
        state.again = false;
        await search(scope, state.max);
      }
      running.delete(key);
    };
    void run();
  };
}

/** The detached tunnels of this process, oldest first or not. */
export function detachedTunnels(
  sessions: Pick<Sessions, 'records' | 'find'>,
  scope: DetachedScope,
): readonly DetachedTunnel[] {
  return [...sessions.records()].flatMap((record) => {
    const { id, detachedAt } = record;
    if (detachedAt === undefined || !isWithin(scope, record)) return [];
    return [{ sessionId: id, since: detachedAt, displace: () => displace(sessions, id) }];
  });
}

/** Ends a tunnel of this process for a newer one, unless its client has come back meanwhile. */
export function displace(sessions: Pick<Sessions, 'find'>, sessionId: string): void {
  const session = sessions.find(sessionId);
  if (session?.record.detachedAt === undefined) return;
  session.abort('DISPLACED', 'it waited for its client, and newer tunnels needed its place');
}

function isWithin(scope: DetachedScope, { principal, grant }: SessionRecord): boolean {
  if ('owner' in scope)
    return scope.owner.issuer === principal?.issuer && scope.owner.subject === principal.subject;
  return 'target' in scope ? grant !== undefined && formatTarget(grant.target) === scope.target : true;
}
