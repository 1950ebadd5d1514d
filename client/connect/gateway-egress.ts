import { chooseEgress } from '../egress/choose.ts';
import type { Egress } from '../egress/egress.ts';
import type { RouteDescription } from '../egress/route/describe.ts';
import type { PlannedRoute } from '../egress/route/route.ts';
import type { ClientSettings } from '../settings.ts';
import { gatewayRoute } from './gateway-route.ts';

/**
 * The egress to the gateway, for tunnels and for all other requests. `route` is that of `gatewayRoute`, for a caller
 * that has computed it already. Throws `CONFIG_INVALID`.
 */
export function egressFor(settings: ClientSettings, route: PlannedRoute = gatewayRoute(settings)): Egress {
  return chooseEgress(route);
}

/**
 * Describes the route that `egressFor` would use now, and which setting chose it. Asks the system and PAC files as a
 * connection would, and connects nowhere else. Throws `CONFIG_INVALID`.
 */
export async function describeRoute(
  settings: ClientSettings,
  signal: AbortSignal,
): Promise<RouteDescription> {
  const { describe } = await import('../egress/route/describe.ts');
  return describe(gatewayRoute(settings), signal);
}
