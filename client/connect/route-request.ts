import type { RouteRequest } from '../egress/route/route.ts';
import { gatewayTarget } from '../entry/entry.ts';
import type { ClientSettings } from '../settings.ts';

/** Where the gateway is and what the settings say about the way there. */
export function wayOf({ gateway, proxy, caFile, trustsSystem, systemCaFile, places }: ClientSettings): RouteRequest {
  return {
    gateway: gatewayTarget(gateway),
    tls: gateway.protocol === 'https:',
    proxy,
    trustsSystem,
    ...(caFile === undefined ? {} : { caFile }),
    ...(systemCaFile === undefined ? {} : { systemCaFile }),
    state: places.state,
  };
}
