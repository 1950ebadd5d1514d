import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { toFailure } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';
import { describeRoute } from '../connect/gateway-egress.ts';
import { check, failed, good } from './check.ts';
import type { EgressFacts } from './check.ts';

/** The one place of the doctor that knows how a proxy is found. Throws as `egressFor` does. */
async function wayOf(settings: ClientSettings, signal: AbortSignal): Promise<EgressFacts> {
  const gateway = gatewayTarget(settings.gateway);
  if (settings.gateway.protocol === 'http:')
    return { ...direct(gateway), words: 'the gateway is on this machine: no proxy, no TLS' };
  const { source, why, steps, dead, trouble } = await describeRoute(settings, signal);
  const alive = steps.filter((each) => !dead.includes(each));
  const who = source === 'nothing' ? why : `${source} (${why})`;
  return wayBy(alive.length > 0 ? alive : steps, trouble === undefined ? who : `${who}; ${trouble}`, gateway);
}

/** The first of `steps`: each is `direct`, or the URL of a proxy with its port, without a password. */
function wayBy([step = 'direct', ...others]: readonly string[], why: string, gateway: Target): EgressFacts {
  const hasOthers = others.length > 0;
  if (step === 'direct')
    return { ...direct(gateway), hasOthers, words: `straight to ${formatTarget(gateway)}: ${why}` };
  const { hostname, port } = new URL(step.replace(/^\w+:/, 'http:'));
  const first = { host: hostname.replaceAll(/^\[|\]$/g, ''), port: Number(port || 80) };
  const else_ = hasOthers ? `, else ${others.join(', ')}` : '';
  return { first, proxy: step, hasOthers, words: `through the proxy ${step}${else_}: ${why}` };
}

function direct(gateway: Target): Pick<EgressFacts, 'first' | 'hasOthers'> {
  return { first: gateway, hasOthers: false };
}

/** Which way out is taken, and why. */
export const egress = check({
  name: 'way',
  title: 'way out',
  needs: [],
  limitMs: 10_000,
  async run(_found, { settings }, signal) {
    const speaker = { check: 'way', title: 'way out' };
    try {
      const found = await wayOf(settings, signal);
      return { findings: [good(speaker, found.words)], found: { way: found } };
    } catch (error) {
      const words = {
        meaning: 'the setting for the proxy cannot be used, so nothing can be connected to.',
        advice: 'write it like this:',
        lines: ['export HTTPS_PROXY=http://proxy.example:3128'],
      };
      return { findings: [failed(speaker, toFailure(error), words)] };
    }
  },
});
