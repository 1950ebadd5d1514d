import { environmentVerdict } from './environment.ts';
import { verdictFor } from './discover.ts';
import { inOrder } from './try-hops.ts';
import { stepName } from '../proxy/proxy-url.ts';
import { wayMemory } from './route-cache.ts';
import type { Way } from './route.ts';

/** Which way out is taken, for people and programs. No passwords. */
export interface WayDescription {
  /** Who says so: `HTTPS_PROXY`, `NO_PROXY`, `POSTERN_PAC`, `config.json`, `GNOME`, `macOS`, `Windows`, `nothing` … */
  readonly source: string;
  /** Why, as a clause. */
  readonly why: string;
  /** What is tried, in this order: `http://p:3128`, `socks5h://q:1080`, `direct`. */
  readonly steps: readonly string[];
  /** Those of them that were not there a short while ago. */
  readonly dead: readonly string[];
  /** Whether this was found out earlier in this network. */
  readonly isRemembered: boolean;
  /** Why a PAC file is not followed. */
  readonly trouble?: string;
  /** Whether certificates in this network needed the authorities of the system. */
  readonly needsSystemTrust: boolean;
}

/** Describes the way without going it. */
export async function describe(way: Way, signal: AbortSignal): Promise<WayDescription> {
  const said = environmentVerdict(way);
  const { verdict, isRemembered } =
    said === undefined ? await verdictFor(way, way.gateway, signal) : { verdict: said, isRemembered: false };
  const memory = wayMemory(way.state);
  const { source, why, steps, trouble } = verdict;
  return {
    source,
    why,
    steps: inOrder(steps, memory).map(stepName),
    dead: steps.filter((step) => memory.isDead(step)).map(stepName),
    isRemembered,
    ...(trouble === undefined ? {} : { trouble }),
    needsSystemTrust: memory.needsSystemTrust,
  };
}
