import type { DetachedScope } from '../policy/limits.ts';
import { TunnelLimiter } from '../policy/limits.ts';
import type { Counter } from '../policy/counter.ts';
import { displacement } from '../resume/displacement.ts';
import type { DetachedTunnel } from '../resume/displacement.ts';
import type { Sessions } from '../session/sessions.ts';

/** The parts of a gateway that its limits reach. */
export interface LimiterParts {
  readonly counter: Counter | undefined;
  readonly sessions: Sessions;
  /** The other processes of the gateway, where there can be any. */
  readonly peers: { detached(scope: DetachedScope): Promise<readonly DetachedTunnel[]> } | undefined;
}

/** The limiter of a process, whose detached tunnels, and those of its peers, make room for newer ones. */
export function openLimiter({ counter, sessions, peers }: LimiterParts): TunnelLimiter {
  const others = peers && ((scope: DetachedScope) => peers.detached(scope));
  return new TunnelLimiter({ counter, onTooManyDetached: displacement({ sessions, others }) });
}
