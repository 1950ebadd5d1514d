import { lookup } from 'node:dns/promises';
import { withDeadline } from '../../base/deadline.ts';
import { isAddress } from '../../protocol/target.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { ClientError } from '../errors/failure.ts';
import { check, failed, ok, survived } from './check.ts';
import type { ClientOutcome, EgressFacts } from './check.ts';

const id = { check: 'name', title: 'name' };

/** Whether the name of the first peer resolves here: the proxy, else the gateway. */
export const name = check({
  name: 'name',
  title: 'name',
  needs: ['route'],
  limitMs: 12_000,
  async run({ route }, _context, signal): Promise<ClientOutcome> {
    const { host } = route.first;
    if (isAddress(host))
      return { findings: [ok(id, `${host} is an address, not a name`)], found: { addresses: [host] } };
    try {
      const answers = await withDeadline(signal, answerMs, () => lookup(host, { all: true }), {
        onTimeout: noAnswer,
        onAborted: noAnswer,
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

function noAnswer(): Error {
  return Object.assign(new Error('no answer'), { code: 'ETIMEOUT' });
}

/** A resolver repeats its query after 5 s, and is often answered then. */
const answerMs = 8000;

function unknown(route: EgressFacts, code: string): Finding {
  const { host } = route.first;
  const isProxy = route.proxy !== undefined;
  const [unreachable, timeout] = isProxy
    ? (['PROXY_UNREACHABLE', 'PROXY_UNREACHABLE'] as const)
    : (['GATEWAY_UNREACHABLE', 'GATEWAY_TIMEOUT'] as const);
  if (code !== 'ENOTFOUND' && code !== 'ENODATA') {
    const failure = new ClientError(timeout, `no name server answers for ${host}`);
    const words = {
      meaning:
        'this machine cannot resolve names at the moment. Usually it is offline, or a VPN is only partly connected.',
      advice: isProxy
        ? 'check the network connection; then ask your network administrators which name servers to use.'
        : 'check the network connection. In a company network with a proxy, set it; the proxy resolves names itself:',
      ...(isProxy ? {} : { lines: [proxyLine] }),
    };
    return failed(id, failure, words);
  }
  const failure = new ClientError(unreachable, `the name ${host} does not resolve here`);
  const words = isProxy
    ? {
        meaning:
          'the configured proxy does not exist in this network. It belongs to another network, or is misspelled.',
        advice: 'correct HTTPS_PROXY, or outside that network unset it: unset HTTPS_PROXY',
      }
    : {
        meaning: `the name is misspelled, or resolves only inside some network (VPN), or only the company's proxy resolves names of the internet.`,
        advice: `check the gateway URL (postern status), connect the VPN if there is one, or set the proxy:`,
        lines: [proxyLine],
      };
  return failed(id, failure, words);
}

const proxyLine = 'export HTTPS_PROXY=http://proxy.example:3128';
