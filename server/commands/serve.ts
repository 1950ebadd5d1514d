import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import type { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { parseArgs } from 'node:util';
import fastify, { LogController } from 'fastify';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import { standardLog } from '../account/log.ts';
import type { Config } from '../config/config.ts';
import { defaultConfigText } from '../config/defaults.ts';
import { defaultConfigFile, loadConfig } from '../config/load.ts';
import { refuse } from '../entry/refusal.ts';
import { Gateway } from '../gateway.ts';
import { adminApp } from '../listen/admin.ts';
import { newRequestId } from '../listen/requests.ts';
import { describeDoor, listen } from '../listen/listen.ts';
import type { Door } from '../listen/listen.ts';
import { controlOf, mount } from '../plugin.ts';
import { notifySystemd, passedSocket } from '../systemd.ts';
import { runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

const maxHeaderBytes = 16 * 1024;
const maxHeaders = 100;
/** Node looks for connections that are too slow this often; its default of 30 s would make every limit 30 s late. */
const slowConnectionCheckMs = 2000;

const usage = 'postern-gateway serve [--config FILE] [--init]';

/** `postern-gateway serve`: runs until a signal ends it; resolves to the exit code. */
export function serve(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, () => serveUntilStopped(args, io));
}

async function serveUntilStopped(args: string[], { env }: CommandIo): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      config: { type: 'string', default: defaultConfigFile },
      init: { type: 'boolean', default: false },
    },
  });
  if (values.init)
    await writeFile(values.config, defaultConfigText(), { flag: 'wx', mode: 0o600 }).catch(unlessThere);
  const config = await loadConfig(values.config, env);
  const log = standardLog(config.log.level);
  const gateway = await Gateway.open(config, log);
  const app = publicApp(config, log);
  const admin = adminApp(gateway);
  const control = controlOf(gateway);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: gateway.prefix.slice(0, -1) });
  const passed = passedSocket(env);
  const door: Door = passed === undefined ? config.listen : { kind: 'passed', fd: passed };
  try {
    await listen(admin, config.admin, 'owner');
    await listen(control, config.control, 'owner');
    await listen(app, door, 'everyone');
  } catch (error) {
    await Promise.all([admin.close(), control.close(), app.close()]);
    throw error;
  }
  log.info(
    { listen: describeDoor(door), admin: describeDoor(config.admin), publicUrl: config.publicUrl.href },
    'listening',
  );
  await notifySystemd('READY=1', env);

  onHangUp(async () => {
    await notifySystemd('RELOADING=1', env);
    gateway.reopenAudit();
    await reload(values.config, env, gateway, app, log);
    await notifySystemd('READY=1', env);
  });
  const cause = await stopSignal(log);
  log.info({ cause, tunnels: gateway.sessions.count }, 'stopping');
  await notifySystemd('STOPPING=1', env);
  app.server.close();
  await gateway.drain();
  app.server.closeAllConnections();
  await app.close();
  await admin.close();
  await control.close();
  log.info('stopped');
  await new Promise<void>((resolve) => log.flush(() => resolve()));
  return cause === 'uncaughtException' ? 1 : 0;
}

function publicApp(config: Config, log: Logger): FastifyInstance {
  const { tls, limits, trustedProxies } = config;
  const common = {
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    trustProxy: [...trustedProxies],
    requestTimeout: limits.preAuthMs,
    // Longer than the time for the head, so that a slow caller gets its 408.
    connectionTimeout: limits.preAuthMs + 5000,
    clientErrorHandler: refuseUnreadable,
    keepAliveTimeout: 65_000,
    bodyLimit: 64 * 1024,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 300 },
  };
  const http = { maxHeaderSize: maxHeaderBytes, connectionsCheckingInterval: slowConnectionCheckMs };
  const app = tls
    ? fastify({
        ...common,
        https: {
          ...http,
          ...certificateOf(tls),
          ALPNProtocols: ['http/1.1'],
          // As it is for plain HTTP; without it a client's EOF would cut off what the target still says.
          allowHalfOpen: true,
          handshakeTimeout: limits.preAuthMs,
        },
      })
    : fastify({ ...common, http });
  app.server.headersTimeout = limits.preAuthMs;
  app.server.maxHeadersCount = maxHeaders;
  return app as unknown as FastifyInstance;
}

/** What Node's parser could not read, or did not get in time. */
const parserCodes: Readonly<Record<string, TunnelErrorCode>> = {
  HPE_HEADER_OVERFLOW: 'HEADERS_TOO_LARGE',
  ERR_HTTP_REQUEST_TIMEOUT: 'REQUEST_TIMEOUT',
};

function refuseUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  socket.on('error', () => {});
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const code = parserCodes[error.code ?? ''] ?? 'REQUEST_INVALID';
  refuse(socket, new TunnelError(code, 'this is not an HTTP request that can be read'), newRequestId(), {
    speaksAs: 'origin',
  });
}

function certificateOf(tls: NonNullable<Config['tls']>): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) };
}

/** A configuration that cannot be used changes nothing: the old one stays, and the log says why. */
async function reload(
  file: string,
  env: CommandIo['env'],
  gateway: Gateway,
  app: FastifyInstance,
  log: Logger,
): Promise<void> {
  try {
    const config = await loadConfig(file, env);
    if (config.tls && gateway.config.tls)
      (app.server as unknown as TlsServer).setSecureContext(certificateOf(config.tls));
    await gateway.reload(config);
    log.info('configuration reloaded');
  } catch (error) {
    log.error({ err: error }, 'configuration not reloaded; the old one stays');
  }
}

/** Reloads one after the other, however fast the signals come. */
function onHangUp(reloadOnce: () => Promise<void>): void {
  let last = Promise.resolve();
  process.on('SIGHUP', () => {
    last = last.then(reloadOnce);
  });
}

/**
 * Resolves with what asks the process to stop: SIGTERM, SIGINT, or an error nobody caught, after which the open tunnels
 * may end in peace but nothing new begins. A second one of any of them ends the process at once.
 */
function stopSignal(log: Logger): Promise<string> {
  return new Promise((resolve) => {
    let asked = false;
    const stop = (cause: string): void => {
      // Not `process.exit()`, which waits for threads that are compiling.
      if (asked) process.kill(process.pid, 'SIGKILL');
      asked = true;
      resolve(cause);
    };
    process.on('SIGTERM', () => stop('SIGTERM'));
    process.on('SIGINT', () => stop('SIGINT'));
    process.on('uncaughtException', (error) => {
      log.fatal({ err: error }, 'an error nobody caught');
      stop('uncaughtException');
    });
  });
}

function unlessThere(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
}
