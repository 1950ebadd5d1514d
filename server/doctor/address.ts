import type { GatewayCheck, GatewayDoctorContext } from './check.ts';
import { finding, skip } from './check.ts';
import { linesFor } from './fronts.ts';
import { probe } from './probe.ts';
import type { ProbeResponse, ProbeRequest } from './probe.ts';

/** Reserved for documentation (RFC 5737). */
const forged = '192.0.2.77';

/** An address of this machine that is distinguishable from 127.0.0.1. */
const otherLoopback = '127.0.0.77';

/** Whether the gateway sees the real address of clients, and no client can forge it. */
export const address: GatewayCheck = {
  name: 'address',
  title: 'callers',
  needs: ['isForwarded', 'addresses'],
  limitMs: 8000,
  async run({ addresses, front }, context, signal) {
    const { token, config } = context;
    if (token === undefined) return skip(address, `the key ${config.keyFile} cannot be read here`);
    const isHere = addresses?.[0]?.startsWith('127.') === true && process.platform === 'linux';
    const from = isHere ? { from: otherLoopback } : {};
    const headers = { Authorization: `Bearer ${token}` };
    const honest = await probe(context, { path: 'api/access', headers, ...from }, signal);
    const forgedRequest: ProbeRequest = {
      path: 'api/access',
      headers: { ...headers, 'X-Forwarded-For': forged },
      ...from,
    };
    const seen = clientIn(honest);
    if (seen === undefined) return skip(address, `the gateway answered ${honest.status}`);
    if (clientIn(await probe(context, forgedRequest, signal)) === forged) {
      return finding(address, 'error', {
        what: 'clients can choose the address that the gateway sees',
        meaning:
          'the web server forwards X-Forwarded-For as clients send it. A client can evade limits and falsify its address in the audit.',
        advice: 'make the web server replace the field:',
        lines: linesFor('address', front, config),
      });
    }
    if (seen === honest.from)
      return finding(address, 'ok', { what: `the gateway sees this machine at ${seen}, as it should` });
    return isLoopback(seen) || addresses?.includes(seen)
      ? hidden(seen, context, front)
      : translated(seen, honest.from);
  },
};

function hidden(seen: string, { config }: GatewayDoctorContext, front: Parameters<typeof linesFor>[1]) {
  return finding(address, 'error', {
    what: `the gateway takes the web server's address, ${seen}, for that of every client`,
    meaning:
      'limits per address count all clients together, and the audit does not show where a client connects from.',
    advice: `make the web server forward the client's address, and trust the web server in postern.yaml: trustedProxies: [${seen}]. The current value is [${config.trustedProxies.join(', ')}]`,
    lines: linesFor('address', front, config),
  });
}

function translated(seen: string, from: string) {
  return finding(address, 'ok', {
    what: `the gateway sees this machine at ${seen}. Its own address is ${from}: another proxy, or address translation (NAT), is between the two`,
  });
}

function isLoopback(text: string): boolean {
  return text.startsWith('127.') || text === '::1';
}

function clientIn({ status, body }: ProbeResponse): string | undefined {
  try {
    const { client } = JSON.parse(body) as { client?: unknown };
    return status === 200 && typeof client === 'string' ? client : undefined;
  } catch {
    return undefined;
  }
}
