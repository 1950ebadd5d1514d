import { lookup } from 'node:dns/promises';
import { withDeadline } from '../../base/deadline.ts';
import { isAddress } from '../../protocol/target.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { ClientError } from '../errors/failure.ts';
import { check, failed, ok, survived } from './check.ts';
import type { ClientOutcome, EgressFacts } from './check.ts';

const id = { check: 'name', title: 'name' };

/** Whether the name of whoever is connected to first is known here. Behind a proxy, that is the proxy. */
export const name = check({
  name: 'name',
  title: 'name',
  needs: ['route'],
  limitMs: 12_000,
  async run({ route }, _context, signal): Promise<ClientOutcome> {
    const { host } = route.first;
    if (isAddress(host))
      return { findings: [ok(id, `${host} is an address, no name`)], found: { addresses: [host] } };
    try {
      const onTimeout = (): Error => Object.assign(new Error('no answer'), { code: 'ETIMEOUT' });
      const answers = await withDeadline(signal, answerMs, () => lookup(host, { all: true }), {
        onTimeout,
        onAborted: onTimeout,
      });
      const addresses = answers.map(({ address }) => address);
      return { findings: [ok(id, `${host} is ${addresses.join(', ')}`)], found: { addresses } };
    } catch (error) {
      const finding = unknown(route, (error as NodeJS.ErrnoException).code ?? '');
      return route.hasOthers
        ? { findings: [survived(finding)], found: { addresses: [] } }
        : { findings: [finding] };
    }
  },
});

/** A resolver asks again after 5 s; a second question is often answered. */
const answerMs = 8000;

function unknown(route: EgressFacts, code: string): Finding {
  const { host } = route.first;
  const isProxy = route.proxy !== undefined;
  const [unreachable, timeout] = isProxy
    ? (['PROXY_UNREACHABLE', 'PROXY_UNREACHABLE'] as const)
    : (['GATEWAY_UNREACHABLE', 'GATEWAY_TIMEOUT'] as const);
  if (code !== 'ENOTFOUND' && code !== 'ENODATA') {
    const failure = new ClientError(timeout, `no name server answers about ${host}`);
    const words = {
      meaning:
        'this machine cannot turn names into addresses now. Most often it is offline, or a VPN is half up.',
      advice: isProxy
        ? 'check the network connection; then ask your network people which name servers to use.'
        : 'check the network connection. In a company network that has a proxy, name it; the proxy looks names up itself:',
      ...(isProxy ? {} : { lines: [proxyLine] }),
    };
    return failed(id, failure, words);
  }
  const failure = new ClientError(unreachable, `the name ${host} is not known here`);
  const words = isProxy
    ? {
        meaning:
          'the proxy that is set does not exist in this network. It may be that of another network, or mistyped.',
        advice:
          'correct the variable HTTPS_PROXY, or outside of that network take it away: unset HTTPS_PROXY',
      }
    : {
        meaning: `the name is mistyped, or known only inside of some network (VPN), or names of the internet are known only to the company's proxy.`,
        advice: `check the gateway URL (postern status), connect the VPN if there is one, or name the proxy:`,
        lines: [proxyLine],
      };
  return failed(id, failure, words);
}

const proxyLine = 'export HTTPS_PROXY=http://proxy.example:3128';
