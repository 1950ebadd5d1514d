import { finding, skip } from './check.ts';
import type { GatewayCheck } from './check.ts';
import { linesFor } from './fronts.ts';
import { probe } from './probe.ts';

/** Time between the first byte and the rest. */
const waitMs = 1000;

/** Whether responses are passed on piece by piece, without buffering. */
export const streaming: GatewayCheck = {
  name: 'streaming',
  title: 'buffering',
  needs: ['isForwarded'],
  limitMs: 8000,
  async run({ front }, context, signal) {
    const { token, config } = context;
    if (token === undefined) return skip(streaming, `the key ${config.keyFile} cannot be read here`);
    const path = `api/measure?waitSeconds=${waitMs / 1000}&bytes=1`;
    const authorization = { Authorization: `Bearer ${token}` };
    const { status, isWhole, spreadMs } = await probe(context, { path, headers: authorization }, signal);
    if (status !== 200 || !isWhole) return skip(streaming, `the gateway answered ${status}`);
    if (spreadMs > waitMs / 2) return finding(streaming, 'ok', { what: 'responses arrive piece by piece' });
    return finding(streaming, 'warning', {
      what: 'responses are buffered until they are complete',
      meaning:
        'tunnels over WebSocket, connect-tcp and CONNECT are not affected; those over plain HTTP are slow.',
      advice: 'add this:',
      lines: linesFor('buffering', front, config),
    });
  },
};
