import { request } from 'node:http';
import { formatTarget } from '../../protocol/target.ts';
import type { ListenAddress } from '../config/config.ts';
import { finding } from './check.ts';
import type { GatewayCheck } from './check.ts';

/** Whether the gateway of this configuration runs, by its admin address. */
export const running: GatewayCheck = {
  name: 'running',
  title: 'gateway',
  needs: [],
  limitMs: 5000,
  async run(_found, { config }, signal) {
    try {
      const { status, body } = await requestLocal(config.admin, '/readyz', signal);
      if (status === 200)
        return {
          ...finding(running, 'ok', { what: 'it runs, and would open tunnels' }),
          found: { isRunning: true },
        };
      const what = `it runs, but would not open tunnels: ${body.trim().replaceAll('\n', ', ').slice(0, 200)}`;
      return { ...finding(running, 'warning', { what }), found: { isRunning: true } };
    } catch {
      return finding(running, 'error', {
        what: `no answer from admin at ${formatAddress(config.admin)}`,
        meaning: 'the gateway is not running, or runs with another configuration.',
        advice: 'start it, or name its configuration with --config:',
        lines: ['systemctl start postern-gateway', 'postern-gateway serve'],
      });
    }
  },
};

function formatAddress(address: ListenAddress): string {
  return address.kind === 'unix' ? address.path : formatTarget(address);
}

/** Requests `path` from a listener on this machine and reads up to 4 KiB. Rejects with the error of the connection. */
export function requestLocal(
  address: ListenAddress,
  path: string,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly body: string }> {
  const where =
    address.kind === 'unix'
      ? { socketPath: address.path }
      : {
          host:
            ({ '0.0.0.0': '127.0.0.1', '::': '::1' } as Record<string, string>)[address.host] ?? address.host,
          port: address.port,
        };
  return new Promise((resolve, reject) => {
    const outgoing = request({ ...where, path, agent: false, signal }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        if (body.length < 4096) body += chunk;
      });
      response.once('close', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    outgoing.once('error', reject);
    outgoing.end();
  });
}
