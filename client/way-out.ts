import { chooseEgress } from './egress/choose.ts';
import type { Egress } from './egress/egress.ts';
import type { WayDescription } from './egress/describe.ts';
import type { Way } from './egress/way.ts';
import { gatewayTarget } from './entry/entry.ts';
import type { Settings } from './settings.ts';

/** The one way to the gateway, for tunnels and for everything else. Throws `CONFIG_INVALID`. */
export function wayOut(settings: Settings): Egress {
  return chooseEgress(wayOf(settings));
}

/** What `wayOut` would do now, and who says so. Asks whom it would ask, connects nowhere. Throws `CONFIG_INVALID`. */
export async function describeWay(settings: Settings, signal: AbortSignal): Promise<WayDescription> {
  const { describe } = await import('./egress/describe.ts');
  return describe(wayOf(settings), signal);
}

function wayOf({ gateway, proxy, caFile, trustsSystem, systemCaFile, places }: Settings): Way {
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
