import { Secret } from '../../protocol/secret.ts';
import { direct } from './direct.ts';
import type { Egress } from './egress.ts';
import { httpProxy } from './http-proxy.ts';
import { stepName } from './proxy.ts';
import type { Proxy, Step } from './proxy.ts';
import type { TrustSources } from './tls.ts';

/** The egress of one step; `trust` is for the TLS of an https:// proxy. */
export function stepEgress(step: Step, trust: TrustSources): Egress {
  if (step === 'direct') return direct;
  const { scheme, address } = step;
  if (scheme !== 'http' && scheme !== 'https') return socks(step);
  const credentials = basic(step);
  return httpProxy({ address, tls: scheme === 'https', ...(credentials && { credentials }) }, trust);
}

function socks(proxy: Proxy): Egress {
  return {
    name: stepName(proxy),
    connect: async (gateway, signal) => {
      const { connectBySocks } = await import('./socks-proxy.ts');
      return connectBySocks(proxy, gateway, signal);
    },
  };
}

function basic({ user, password }: Proxy): Secret | undefined {
  if (user === undefined || password === undefined) return undefined;
  return new Secret(`Basic ${Buffer.from(`${user}:${password.reveal()}`).toString('base64')}`);
}
