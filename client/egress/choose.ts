import { direct } from './direct.ts';
import type { Egress } from './egress.ts';
import { hopEgress } from './route/hop-egress.ts';
import { secureEgress } from './tls/tls.ts';
import { trustOf } from './tls/trust.ts';
import type { PlannedRoute, Route, RouteRequest } from './route/route.ts';

/** The egress of a planned route; nothing is asked or connected to yet. */
export function chooseEgress({ request, route }: PlannedRoute): Egress {
  if (!request.tls) return direct;
  const egress = route === undefined ? viaDiscovery(request) : viaRoute(route, request);
  return secureEgress(egress, trustOf(request));
}

function viaRoute(route: Route, request: RouteRequest): Egress {
  const [hop, ...more] = route.hops;
  if (more.length === 0) return hopEgress(hop!, trustOf(request), request.proxy.signIn);
  return {
    name: route.source,
    connect: async (gateway, signal) => {
      const { connectViaRoute } = await import('./route/try-hops.ts');
      return connectViaRoute(route, { request, gateway, signal });
    },
  };
}

function viaDiscovery(request: RouteRequest): Egress {
  return {
    name: 'what the system says',
    connect: async (gateway, signal) => {
      const { connectDiscovered } = await import('./route/discover.ts');
      return connectDiscovered(request, gateway, signal);
    },
  };
}
