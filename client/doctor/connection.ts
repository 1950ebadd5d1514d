import type { Explanation } from '../../diagnostics/finding.ts';
import { formatTarget } from '../../protocol/target.ts';
import { currentNetworkLookup } from '../egress/tcp/network-dns-cache.ts';
import { openTcp } from '../egress/tcp/tcp.ts';
import { toFailure } from '../errors/failure.ts';
import { check, failed, ok, survived } from './check.ts';
import type { EgressFacts } from './check.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const id = { check: 'connection', title: 'connection' };

/** Whether whoever is first on the route takes a TCP connection. */
export const connection = check({
  name: 'connection',
  title: 'connection',
  needs: ['route', 'addresses'],
  limitMs: 12_000,
  async run({ route }, _context, signal) {
    const address = formatTarget(route.first);
    const isProxy = route.proxy !== undefined;
    const peer = {
      address: route.first,
      name: route.proxy ?? address,
      unreachable: isProxy ? 'PROXY_UNREACHABLE' : 'GATEWAY_UNREACHABLE',
      timeout: isProxy ? 'PROXY_UNREACHABLE' : 'GATEWAY_TIMEOUT',
      ...(isProxy && { lookup: currentNetworkLookup }),
    } as const;
    const limit = deadlineSignal(signal, patienceMs);
    const since = performance.now();
    try {
      const socket = await openTcp(peer, limit);
      const tookMs = performance.now() - since;
      const from = socket.remoteAddress ?? address;
      socket.destroy();
      const what = `${from} answers on port ${route.first.port} after ${Math.round(tookMs)} ms`;
      return { findings: [ok(id, what)], found: { isReached: true, reachedMs: tookMs } };
    } catch (error) {
      const failure = toFailure(error);
      const { code } = (failure.cause ?? {}) as NodeJS.ErrnoException;
      const finding = failed(id, failure, wordsFor(code, route));
      return route.hasOthers
        ? { findings: [survived(finding)], found: { isReached: true } }
        : { findings: [finding] };
    }
  },
});

/** Three tries of TCP: after 1, 3 and 7 s. */
const patienceMs = 8000;

function wordsFor(code: string | undefined, { first, proxy }: EgressFacts): Explanation {
  const whose = proxy === undefined ? 'gateway' : 'proxy';
  if (code === 'ECONNREFUSED') {
    return {
      meaning: `the machine is there, but no program listens on port ${first.port}.`,
      advice:
        proxy === undefined
          ? 'check the port of the gateway URL; if it is right, tell those who run the gateway that its web server is down.'
          : 'check the port of the proxy where it is set (the first line says where); if it is right, tell your network people that their proxy is down.',
    };
  }
  if (proxy !== undefined) {
    return {
      meaning: `the proxy that is set does not answer. It is down, or belongs to a network that this machine is not in now.`,
      advice:
        'outside of that network, take the variable away: unset HTTPS_PROXY. Inside, ask your network people.',
    };
  }
  return {
    meaning: `something between here and the ${whose} swallows or turns away what is sent to it: a firewall, as a rule. In company networks often only a proxy leads out.`,
    advice: 'ask your network people for their proxy, and name it:',
    lines: ['export HTTPS_PROXY=http://proxy.example:3128'],
  };
}
