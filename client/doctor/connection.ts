import type { Explanation } from '../../diagnostics/finding.ts';
import { formatTarget } from '../../protocol/target.ts';
import { networkId } from '../os/network-id.ts';
import { networkLookup } from '../egress/tcp/dns-cache.ts';
import { openTcp } from '../egress/tcp/tcp.ts';
import { toFailure } from '../errors/failure.ts';
import { check, failed, ok, survived } from './check.ts';
import type { EgressFacts } from './check.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const id = { check: 'connection', title: 'connection' };

/** Whether the first peer accepts a TCP connection. */
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
      ...(isProxy && { lookup: networkLookup(networkId) }),
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

/** Three retransmissions of TCP: after 1, 3 and 7 s. */
const patienceMs = 8000;

function wordsFor(code: string | undefined, { first, proxy }: EgressFacts): Explanation {
  const peerKind = proxy === undefined ? 'gateway' : 'proxy';
  if (code === 'ECONNREFUSED') {
    return {
      meaning: `the machine is up, but no program listens on port ${first.port}.`,
      advice:
        proxy === undefined
          ? 'check the port of the gateway URL; if it is right, tell the operators of the gateway that its web server is down.'
          : 'check the port of the proxy where it is set (the first line says where); if it is right, tell your network administrators that the proxy is down.',
    };
  }
  if (proxy !== undefined) {
    return {
      meaning: 'the configured proxy does not answer. It is down, or belongs to another network.',
      advice:
        'outside that network, unset the variable: unset HTTPS_PROXY. Inside it, ask your network administrators.',
    };
  }
  return {
    meaning: `something between here and the ${peerKind} drops or rejects the packets, usually a firewall. In company networks, often only a proxy leads out.`,
    advice: 'ask your network administrators for the proxy, and set it:',
    lines: ['export HTTPS_PROXY=http://proxy.example:3128'],
  };
}
