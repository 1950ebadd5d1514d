import { definedOnly } from '../../base/defined-only.ts';
import { planRoute } from '../egress/route/environment.ts';
import type { PlannedRoute } from '../egress/route/route.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import type { ClientSettings } from '../settings.ts';

/**
 * The route to the gateway as the settings define it. A command computes it once and passes it on: to the early
 * connection, to the egress, to the doctor. Throws `CONFIG_INVALID` for a proxy URL that is not valid.
 */
export function gatewayRoute(settings: ClientSettings): PlannedRoute {
  const { gateway, proxy, caFile, trustsSystem, systemCaFile, paths } = settings;
  return planRoute({
    gateway: gatewayTarget(gateway),
    tls: gateway.protocol === 'https:',
    proxy,
    trustsSystem,
    state: paths.state,
    ...definedOnly({ caFile, systemCaFile }),
  });
}
