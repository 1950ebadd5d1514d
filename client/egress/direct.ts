import { formatTarget } from '../../protocol/target.ts';
import type { Egress } from './egress.ts';
import { openTcp } from './tcp.ts';

/** Straight to the gateway. */
export const direct: Egress = {
  name: 'direct',
  connect: (gateway, signal) =>
    openTcp(
      {
        address: gateway,
        name: formatTarget(gateway),
        unreachable: 'GATEWAY_UNREACHABLE',
        timeout: 'GATEWAY_TIMEOUT',
        hint: 'export HTTPS_PROXY=http://proxy.example:3128',
      },
      signal,
    ),
};
