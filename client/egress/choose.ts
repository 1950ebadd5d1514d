import { direct } from './direct.ts';
import type { Egress } from './egress.ts';
import { stepEgress } from './route/hop-egress.ts';
import { secureEgress } from './tls/tls.ts';
import { trustOf } from './tls/trust.ts';
import { routeFromEnvironment } from './route/environment.ts';
import type { Route, RouteRequest } from './route/route.ts';

/** The way out, without asking anybody yet. Throws `CONFIG_INVALID` for a proxy that cannot be used. */
export function chooseEgress(way: RouteRequest): Egress {
  if (!way.tls) return direct;
  const verdict = routeFromEnvironment(way);
  const egress = verdict === undefined ? discovered(way) : along(verdict, way);
  return secureEgress(egress, trustOf(way));
}

function along(verdict: Route, way: RouteRequest): Egress {
  const [step, ...more] = verdict.steps;
  if (more.length === 0) return stepEgress(step!, trustOf(way), way.proxy.signIn);
  return {
    name: verdict.source,
    connect: async (gateway, signal) => {
      const { connectViaRoute } = await import('./route/try-hops.ts');
      return connectViaRoute(verdict, { way, gateway, signal });
    },
  };
}

function discovered(way: RouteRequest): Egress {
  return {
    name: 'what the system says',
    connect: async (gateway, signal) => {
      const { connectDiscovered } = await import('./route/discover.ts');
      return connectDiscovered(way, gateway, signal);
    },
  };
}
