import { connect } from 'node:net';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayDoctorContext } from './check.ts';
import { probe } from './probe.ts';
import type { ProbeResponse } from './probe.ts';

/** Whether endpoints for operators are reachable from outside. */
export const admin: GatewayCheck = {
  name: 'admin',
  title: 'admin',
  needs: ['isSecure', 'addresses'],
  limitMs: 10_000,
  async run({ addresses = [] }, context, signal) {
    for (const path of ['/metrics', '/readyz', '/healthz', `${context.url.pathname}metrics`]) {
      const answer = await probe(context, { path }, signal);
      if (!isAdmin(answer, path)) continue;
      return finding(admin, 'error', {
        what: `the web server exposes ${path} of the gateway`,
        meaning: 'anyone can monitor the gateway.',
        advice: `make the web server forward ${context.config.publicUrl.pathname} and /.well-known/masque/tcp/ to the gateway, and nothing to the port of admin.`,
      });
    }
    return checkDirectAccess(addresses, context, signal);
  },
};

/** The last line of the metrics, or the one word of the others. */
function isAdmin({ status, body }: ProbeResponse, path: string): boolean {
  if (status !== 200) return false;
  return path.endsWith('metrics') ? /^postern_/m.test(body) : /^(?:ok|ready)\n$/.test(body);
}

async function checkDirectAccess(
  addresses: readonly string[],
  { config }: GatewayDoctorContext,
  signal: AbortSignal,
) {
  const { admin: address } = config;
  const closed = 'not reachable through the web server';
  if (address.kind === 'unix') return finding(admin, 'ok', { what: `${closed}; it is on a unix socket` });
  if (address.host.startsWith('127.') || address.host === '::1')
    return finding(admin, 'ok', { what: `${closed}; it listens on this machine only` });
  const outside = addresses.filter((each) => !each.startsWith('127.') && each !== '::1');
  if (outside.length === 0) return skip(admin, 'the public name resolves to this machine itself');
  const open = await Promise.all(outside.map((host) => accepts(host, address.port, signal)));
  if (!open.includes(true))
    return finding(admin, 'ok', { what: `${closed}, or at port ${address.port} of the public address` });
  return finding(admin, 'error', {
    what: `port ${address.port} of the public address accepts connections, and admin listens on ${address.host}`,
    meaning: 'anyone who can reach this address can monitor the gateway, unless a firewall blocks it.',
    advice: 'in postern.yaml:',
    lines: [`admin: 127.0.0.1:${address.port}`],
  });
}

function accepts(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    socket.once('connect', () => {
      resolve(true);
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
  });
}
