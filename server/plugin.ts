import type { FastifyInstance } from 'fastify';
import { parseConfig } from './config/parse.ts';
import { loadConfig } from './config/load.ts';
import { Gateway } from './gateway.ts';
import { controlApp } from './admin/control.ts';
import type { PeerControl, KillRequest } from './admin/control.ts';
import { recordEmbeddedStart } from './gateway/start-record.ts';
import { listen, removeSocketFile } from './listener/listen.ts';
import { guardPaths } from './http/path-guard.ts';
import { operatorKillReason } from './session/end-words.ts';

export interface PosternOptions {
  /** The path of a `postern.yaml`, or its content as an object. */
  readonly config: string | object;
  /** Where Fastify mounts the plugin; the path of `publicUrl` is taken from here. */
  readonly prefix?: string;
}

/**
 * The gateway as a Fastify plugin: `app.register(postern, { prefix: '/ssh', config })`. It works beside other routes
 * and other WebSocket plugins, whose upgrades it leaves alone; it handles all CONNECT requests of the server.
 * `listen`, `workers`, `admin` and `tls` of the configuration belong to the app and are not used. Closing the app waits for open
 * tunnels up to `limits.graceSeconds`. Rejects with `ConfigError` when the configuration cannot be used.
 *
 * The control socket, for `postern-gateway sessions` and `kill`, is opened for a configuration in a file, which those
 * commands read too, and for one that sets `control`.
 */
export async function postern(app: FastifyInstance, options: PosternOptions): Promise<void> {
  const config =
    typeof options.config === 'string'
      ? await loadConfig(options.config, {})
      : parseConfig(JSON.stringify(options.config), { file: 'config', env: {} });
  const publicUrl = new URL(`${app.prefix}/`, config.publicUrl);
  const gateway = await Gateway.open({ ...config, publicUrl }, app.log);
  recordEmbeddedStart(gateway.audit);
  mount(app, gateway);
  if (typeof options.config === 'object' && !('control' in options.config)) return;
  const control = controlOf(gateway);
  app.addHook('onReady', () => listen(control, config.control, 'owner'));
  app.addHook('onClose', async () => {
    await control.close();
    await removeSocketFile(config.control);
  });
}

/** The app that answers `postern-gateway sessions` and `kill`, to be served on the control socket. */
export function controlOf(gateway: Gateway, peers?: PeerControl): FastifyInstance {
  const here = {
    sessions: () => gateway.sessions.records(),
    kill: (request: KillRequest) => gateway.kill(byOperator(request)),
  };
  const there = peers && {
    sessions: () => peers.sessions(),
    listSessions: () => peers.listSessions(),
    kill: (request: KillRequest) => peers.kill(byOperator(request)),
  };
  return controlApp(here, there);
}

function byOperator(request: KillRequest): KillRequest {
  return { ...request, reason: operatorKillReason(request.reason) };
}

/** Serves an open gateway in an app that is mounted at its prefix, and closes it with the app. */
export function mount(app: FastifyInstance, gateway: Gateway): void {
  guardPaths(app);
  gateway.routes(app);
  let attached: { release(): void } | undefined;
  app.addHook('onReady', async () => {
    // Now every plugin has its listeners in place.
    attached = gateway.attach(app.server);
  });
  app.addHook('preClose', () => gateway.drain());
  app.addHook('onClose', async () => {
    attached?.release();
    await gateway.close();
  });
}
