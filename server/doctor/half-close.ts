import { finding, skip } from './check.ts';
import type { GatewayCheck } from './check.ts';
import { probe } from './probe.ts';
import type { ProbeResponse } from './probe.ts';

/** Whether a response still arrives after the client has ended its direction. */
export const halfClose: GatewayCheck = {
  name: 'half-close',
  title: 'half-close',
  needs: ['isForwarded', 'passing'],
  limitMs: 8000,
  async run({ passing, front }, context, signal) {
    const { token, config } = context;
    if (token === undefined) return skip(halfClose, `the key ${config.keyFile} cannot be read here`);
    const question = {
      path: 'api/measure?waitSeconds=1&bytes=1',
      headers: { Authorization: `Bearer ${token}` },
      endsEarly: true,
    };
    const answer: ProbeResponse | undefined = await probe(context, question, signal).catch(() => undefined);
    if (answer?.isWhole === true && answer.status === 200)
      return finding(halfClose, 'ok', { what: 'when a client ends its direction, the other one stays open' });
    const what = `${front ?? 'the web server'} ends both directions when a client ends one`;
    if (passing?.includes('connect') !== true)
      return finding(halfClose, 'ok', {
        what: `${what}; the configured entries are not affected`,
      });
    return finding(halfClose, 'warning', {
      what,
      meaning: 'tunnels over CONNECT lose output after the end of input. The other entries are not affected.',
      advice:
        'remove connect from entries in postern.yaml, or use a web server that keeps half-closed connections open (HAProxy).',
    });
  },
};
