import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { toFailure } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';
import { describeRoute } from '../connect/gateway-egress.ts';
import { check, failed, ok } from './check.ts';
import type { EgressFacts } from './check.ts';

/** How connections leave this network, as `egressFor` would choose. Throws as `egressFor`. */
async function egressFacts(settings: ClientSettings, signal: AbortSignal): Promise<EgressFacts> {
  const gateway = gatewayTarget(settings.gateway);
  if (settings.gateway.protocol === 'http:')
    return { ...direct(gateway), words: 'the gateway is on this machine: no proxy, no TLS' };
  const { source, why, hops, dead, pacError } = await describeRoute(settings, signal);
  const alive = hops.filter((each) => !dead.includes(each));
  const origin = source === 'nothing' ? why : `${source} (${why})`;
  return factsOf(
    alive.length > 0 ? alive : hops,
    pacError === undefined ? origin : `${origin}; ${pacError}`,
    gateway,
  );
}

/** The first of the hops: each is `direct`, or the URL of a proxy with its port, without a password. */
function factsOf([hop = 'direct', ...others]: readonly string[], why: string, gateway: Target): EgressFacts {
  const hasOthers = others.length > 0;
  if (hop === 'direct')
    return { ...direct(gateway), hasOthers, words: `directly to ${formatTarget(gateway)}: ${why}` };
  const { hostname, port } = new URL(hop.replace(/^\w+:/, 'http:'));
  const first = { host: hostname.replaceAll(/^\[|\]$/g, ''), port: Number(port || 80) };
  const else_ = hasOthers ? `, else ${others.join(', ')}` : '';
  return { first, proxy: hop, hasOthers, words: `through the proxy ${hop}${else_}: ${why}` };
}

function direct(gateway: Target): Pick<EgressFacts, 'first' | 'hasOthers'> {
  return { first: gateway, hasOthers: false };
}

/** The route out of this network, and what determines it. */
export const egress = check({
  name: 'way',
  title: 'route',
  needs: [],
  limitMs: 10_000,
  async run(_found, { settings }, signal) {
    const id = { check: 'way', title: 'route' };
    try {
      const found = await egressFacts(settings, signal);
      return { findings: [ok(id, found.words)], found: { route: found } };
    } catch (error) {
      const words = {
        meaning: 'the proxy setting is not valid, so no connection can be made.',
        advice: 'write it like this:',
        lines: ['export HTTPS_PROXY=http://proxy.example:3128'],
      };
      return { findings: [failed(id, toFailure(error), words)] };
    }
  },
});
