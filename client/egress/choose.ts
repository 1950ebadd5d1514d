import { direct } from './direct.ts';
import type { Egress } from './egress.ts';
import { stepEgress } from './route/hop-egress.ts';
import { secureEgress } from './tls/tls.ts';
import { trustOf } from './tls/trust.ts';
import { environmentVerdict } from './route/environment.ts';
import type { Verdict, Way } from './route/route.ts';

/** The way out, without asking anybody yet. Throws `CONFIG_INVALID` for a proxy that cannot be used. */
export function chooseEgress(way: Way): Egress {
  if (!way.tls) return direct;
  const verdict = environmentVerdict(way);
  const egress = verdict === undefined ? discovered(way) : along(verdict, way);
  return secureEgress(egress, trustOf(way));
}

function along(verdict: Verdict, way: Way): Egress {
  const [step, ...more] = verdict.steps;
  if (more.length === 0) return stepEgress(step!, trustOf(way), way.proxy.signIn);
  return {
    name: verdict.source,
    connect: async (gateway, signal) => {
      const { connectAlong } = await import('./route/try-hops.ts');
      return connectAlong(verdict, { way, gateway, signal });
    },
  };
}

function discovered(way: Way): Egress {
  return {
    name: 'what the system says',
    connect: async (gateway, signal) => {
      const { connectDiscovered } = await import('./route/discover.ts');
      return connectDiscovered(way, gateway, signal);
    },
  };
}
