import { finding, skip } from './check.ts';
import type { GatewayCheck } from './check.ts';
import { probe } from './probe.ts';
import type { ProbeResponse } from './probe.ts';

/** Whether an answer still arrives after the caller has said that nothing more comes from it. */
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
      return finding(halfClose, 'ok', { what: 'when a caller ends its direction, the other one stays' });
    const what = `${front ?? 'the web server'} ends both directions when a caller ends one`;
    if (passing?.includes('connect') !== true)
      return finding(halfClose, 'ok', {
        what: `${what}; the ways in carry the end inside, and do not mind`,
      });
    return finding(halfClose, 'warning', {
      what,
      meaning:
        'tunnels by CONNECT lose what the target says after the end of the input. The other ways do not mind.',
      advice:
        'take connect out of entries in postern.yaml, or put a web server before it that keeps half-closed connections (HAProxy).',
    });
  },
};
