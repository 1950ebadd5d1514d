import { connect } from 'node:net';
import { finding, skip } from './check.ts';
import type { GatewayCheck, GatewayDoctorContext } from './check.ts';
import { probe } from './probe.ts';
import type { ProbeResponse } from './probe.ts';

/** Whether what is for operators can be had from outside. */
export const admin: GatewayCheck = {
  name: 'admin',
  title: 'admin door',
  needs: ['isSecure', 'addresses'],
  limitMs: 10_000,
  async run({ addresses = [] }, context, signal) {
    for (const path of ['/metrics', '/readyz', '/healthz', `${context.url.pathname}metrics`]) {
      const answer = await probe(context, { path }, signal);
      if (!isAdmin(answer, path)) continue;
      return finding(admin, 'error', {
        what: `the web server gives ${path} of the gateway to anybody`,
        meaning: 'strangers can watch the gateway.',
        advice: `let the web server forward ${context.config.publicUrl.pathname} and /.well-known/masque/tcp/, and nothing else to the port of admin.`,
      });
    }
    return directly(addresses, context, signal);
  },
};

/** The last line of the metrics, or the one word of the others. */
function isAdmin({ status, body }: ProbeResponse, path: string): boolean {
  if (status !== 200) return false;
  return path.endsWith('metrics') ? /^postern_/m.test(body) : /^(?:ok|ready)\n$/.test(body);
}

async function directly(addresses: readonly string[], { config }: GatewayDoctorContext, signal: AbortSignal) {
  const { admin: door } = config;
  const closed = 'strangers cannot reach it through the web server';
  if (door.kind === 'unix') return finding(admin, 'ok', { what: `${closed}, and it is a unix socket` });
  if (door.host.startsWith('127.') || door.host === '::1')
    return finding(admin, 'ok', { what: `${closed}, and it listens on this machine only` });
  const outside = addresses.filter((each) => !each.startsWith('127.') && each !== '::1');
  if (outside.length === 0) return skip(admin, 'the public name leads to this machine itself');
  const open = await Promise.all(outside.map((host) => takes(host, door.port, signal)));
  if (!open.includes(true))
    return finding(admin, 'ok', { what: `${closed}, nor at port ${door.port} of the public address` });
  return finding(admin, 'error', {
    what: `port ${door.port} of the public address takes connections, and admin listens on ${door.host}`,
    meaning: 'whoever reaches this address can watch the gateway, unless a firewall is before it.',
    advice: 'in postern.yaml:',
    lines: [`admin: 127.0.0.1:${door.port}`],
  });
}

function takes(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    socket.once('connect', () => {
      resolve(true);
      socket.destroy();
    });
    socket.on('error', () => resolve(false));
  });
}
