import { chooseEgress } from '../egress/choose.ts';
import type { Egress } from '../egress/egress.ts';
import type { WayDescription } from '../egress/route/describe.ts';
import type { ClientSettings } from '../settings.ts';
import { wayOf } from './route-request.ts';

/** The one way to the gateway, for tunnels and for everything else. Throws `CONFIG_INVALID`. */
export function egressFor(settings: ClientSettings): Egress {
  return chooseEgress(wayOf(settings));
}

/** What `egressFor` would do now, and who says so. Asks whom it would ask, connects nowhere. Throws `CONFIG_INVALID`. */
export async function describeWay(settings: ClientSettings, signal: AbortSignal): Promise<WayDescription> {
  const { describe } = await import('../egress/route/describe.ts');
  return describe(wayOf(settings), signal);
}
