import { Server as TlsServer } from 'node:https';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Challenge } from '../auth/authenticator.ts';
import type { Config } from '../config/config.ts';
import type { Gateway } from '../gateway.ts';
import { publicApp } from '../http/app.ts';
import { certificateOf } from '../http/certificate.ts';
import { mount } from '../plugin.ts';
import { BoundedLog } from '../telemetry/bounded-log.ts';
import { refusalSender, registerErrorReplies } from '../web/error-replies.ts';

/** Nothing outside of the gateway's prefix can be authenticated for. */
const noChallenge: Challenge = { origin: [], proxy: [] };

/** The public app of a process that carries tunnels; it closes the gateway when it is closed. */
export function gatewayApp(gateway: Gateway, log: Logger): FastifyInstance {
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
  // What is not below the prefix; below it, the gateway's own answers apply.
  if (prefix !== '/') registerErrorReplies(app, parts);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: prefix.slice(0, -1) });
  return app;
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
