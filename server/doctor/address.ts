import type { GatewayCheck, GatewayDoctorContext } from './check.ts';
import { finding, skip } from './check.ts';
import { linesFor } from './fronts.ts';
import { probe } from './probe.ts';
import type { ProbeResponse, ProbeRequest } from './probe.ts';

/** For documentation (RFC 5737): nobody's. */
const forged = '192.0.2.77';

/** Of this machine as much as 127.0.0.1, and told from it. */
const otherLoopback = '127.0.0.77';

/** Whether the gateway sees callers where they are, and lets none choose. */
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
    const lying: ProbeRequest = {
      path: 'api/access',
      headers: { ...headers, 'X-Forwarded-For': forged },
      ...from,
    };
    const seen = clientIn(honest);
    if (seen === undefined) return skip(address, `the gateway answered ${honest.status}`);
    if (clientIn(await probe(context, lying, signal)) === forged) {
      return finding(address, 'error', {
        what: 'callers can choose the address that the gateway takes for theirs',
        meaning:
          'the web server passes on what callers say in X-Forwarded-For. Limits and the audit can be fooled.',
        advice: 'let it replace the field:',
        lines: linesFor('address', front, config),
      });
    }
    if (seen === honest.from)
      return finding(address, 'ok', { what: `the gateway sees this machine at ${seen}, as it should` });
    return isLoopback(seen) || addresses?.includes(seen)
      ? hidden(seen, context, front)
      : elsewhere(seen, honest.from);
  },
};

function hidden(seen: string, { config }: GatewayDoctorContext, front: Parameters<typeof linesFor>[1]) {
  return finding(address, 'error', {
    what: `the gateway takes the web server's address, ${seen}, for that of every caller`,
    meaning:
      'limits for each address count everybody together, and the audit cannot tell where somebody came from.',
    advice: `let the web server say who calls, and name its address in postern.yaml: trustedProxies: [${seen}]. It is now: [${config.trustedProxies.join(', ')}]`,
    lines: linesFor('address', front, config),
  });
}

function elsewhere(seen: string, from: string) {
  return finding(address, 'ok', {
    what: `the gateway sees this machine at ${seen}. Its own address is ${from}: another proxy, or an address translation, is between the two`,
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
