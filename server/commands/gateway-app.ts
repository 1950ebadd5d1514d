import { Server as TlsServer } from 'node:https';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Challenge } from '../auth/authenticator.ts';
import type { Config } from '../config/config.ts';
import type { Gateway } from '../gateway.ts';
import { ConnectionGuard } from '../http/connection-guard.ts';
import { ownCounter } from '../policy/counter.ts';
import type { Counter } from '../policy/counter.ts';
import { publicApp } from '../http/app.ts';
import { certificateOf } from '../http/certificate.ts';
import { mount } from '../plugin.ts';
import { BoundedLog } from '../telemetry/bounded-log.ts';
import { refusalSender, registerErrorReplies } from '../web/error-replies.ts';

/** Nothing outside of the gateway's prefix can be authenticated for. */
const noChallenge: Challenge = { origin: [], proxy: [] };

/** Of many connections that are closed for a limit, or cannot be accepted, the log has the first and then one line in this time. */
const reportIntervalMs = 10_000;

/**
 * The public app of a process that carries tunnels; it closes the gateway when it is closed. `counter` counts the
 * connections of each address, for several processes together if they share it.
 */
export function gatewayApp(gateway: Gateway, log: Logger, counter: Counter = ownCounter()): FastifyInstance {
  const { config, prefix, metrics, remoteAddress } = gateway;
  const parts = { publicUrl: config.publicUrl, challenge: () => noChallenge, remoteAddress, log };
  const bounded = new BoundedLog(log);
  const app = publicApp(config, log, {
    onBadPath: refusalSender(parts),
    onUnreadable({ requestId: request, ...what }) {
      metrics.unreadable(what.code);
      bounded.write('info', what.code, { request, ...what }, 'request refused: it cannot be read');
    },
  });
  guardConnections(app, gateway, { log, counter });
  // What is not below the prefix; below it, the gateway's own answers apply.
  if (prefix !== '/') registerErrorReplies(app, parts);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: prefix.slice(0, -1) });
  return app;
}

function guardConnections(
  app: FastifyInstance,
  gateway: Gateway,
  { log, counter }: { readonly log: Logger; readonly counter: Counter },
): void {
  const { metrics } = gateway;
  const warn = rarely((count, details: object) => log.warn({ count, ...details }, 'too many connections'));
  const fail = rarely((count, details: object) =>
    log.error({ count, ...details }, 'connections cannot be accepted'),
  );
  const guard = new ConnectionGuard({
    config: () => gateway.config,
    counter,
    pacer: gateway.pacer,
    onClosed(limit) {
      metrics.connectionRefused(limit);
      warn({ limit });
    },
    onAcceptError(err) {
      metrics.acceptFailed();
      fail({ err });
    },
  });
  metrics.countConnections(() => guard.count);
  guard.watch(app.server);
  app.addHook('preClose', async () => guard.closeWaiting());
}

/** Calls `report` at most once in ten seconds, with the number of calls since it was last called. */
function rarely<T>(report: (count: number, details: T) => void): (details: T) => void {
  let count = 0;
  let reportedAt = -Infinity;
  return (details) => {
    count++;
    const now = performance.now();
    if (now - reportedAt < reportIntervalMs) return;
    report(count, details);
    count = 0;
    reportedAt = now;
  };
}

/**
 * Has a gateway and the TLS server of its app, if it has one, read new settings. Resolves to what puts them in place,
 * which cannot fail; rejects when they cannot be used.
 */
export async function prepareReload(
  gateway: Gateway,
  app: FastifyInstance | undefined,
  config: Config,
): Promise<() => void> {
  // Whether there is TLS at all does not change until a restart.
  const server: unknown = app?.server;
  const certificate = server instanceof TlsServer && config.tls ? certificateOf(config.tls) : undefined;
  const commit = await gateway.prepare(config);
  return () => {
    if (certificate && server instanceof TlsServer) server.setSecureContext(certificate);
    commit();
  };
}
