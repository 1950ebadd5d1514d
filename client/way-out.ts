import { chooseEgress } from './egress/choose.ts';
import type { Egress } from './egress/egress.ts';
import { gatewayTarget } from './entry/entry.ts';
import type { Settings } from './settings.ts';

/** The one way to the gateway, for tunnels and for everything else. Throws `CONFIG_INVALID`. */
export function wayOut({ gateway, proxy, caFile }: Settings): Egress {
  return chooseEgress({
    gateway: gatewayTarget(gateway),
    tls: gateway.protocol === 'https:',
    proxy,
    ...(caFile === undefined ? {} : { caFile }),
  });
}
