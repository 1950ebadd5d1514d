import { Server as TlsServer } from 'node:https';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Config } from '../config/config.ts';
import type { Gateway } from '../gateway.ts';
import { publicApp } from '../http/app.ts';
import { certificateOf } from '../http/certificate.ts';
import { mount } from '../plugin.ts';

/** The public app of a process that carries tunnels; it closes the gateway when it is closed. */
export function gatewayApp(gateway: Gateway, log: Logger): FastifyInstance {
  const app = publicApp(gateway.config, log);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: gateway.prefix.slice(0, -1) });
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
