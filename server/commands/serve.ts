import { writeFile } from 'node:fs/promises';
import type { Server as TlsServer } from 'node:https';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { standardLog } from '../telemetry/log.ts';
import { MetricsAggregator } from '../telemetry/metrics-aggregator.ts';
import { defaultConfigText } from '../config/sample.ts';
import { defaultConfigFile, readConfigText } from '../config/load.ts';
import { parseConfig } from '../config/parse.ts';
import { reloadConfig } from '../config/reload.ts';
import { cpuWarnings } from './preflight.ts';
import { Gateway } from '../gateway.ts';
import { Listeners } from '../listener/listeners.ts';
import { RuntimeDirectory, newInstanceName } from '../cluster/runtime-directory.ts';
import { instanceApp } from '../cluster/peer-api.ts';
import { Peers } from '../cluster/peers.ts';
import { OwnListener } from '../listener/public-listener.ts';
import { ProcessLifecycle } from '../cluster/process-lifecycle.ts';
import { startSuccessor } from '../cluster/spawn-successor.ts';
import { takeoverRoutes } from '../cluster/takeover.ts';
import { Workers } from '../cluster/supervisor.ts';
import { adminApp } from '../admin/health.ts';
import { describeDoor } from '../listener/listen.ts';
import type { ListenSpec } from '../listener/listen.ts';
import { certificateOf, publicApp } from '../http/app.ts';
import { controlOf, mount } from '../plugin.ts';
import { SharedCounts } from '../cluster/shared-counter.ts';
import { notifySystemd, passedSocket, workerPlace } from '../cluster/systemd.ts';
import { runCommand } from './command.ts';
import type { CommandIo } from './command.ts';
import { serveAsWorker } from './serve-worker.ts';
import { onHangUp, onUpgrade, stopSignal } from './signals.ts';

/** Others that stop too may take this much longer than the grace time. */
const marginMs = 5000;

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
  const place = workerPlace(env);
  if (place) return serveAsWorker(values.config, place, env);
  if (values.init)
    await writeFile(values.config, defaultConfigText(), { flag: 'wx', mode: 0o600 }).catch(unlessThere);
  let text = await readConfigText(values.config);
  const config = parseConfig(text, { file: values.config, env });
  const log = standardLog(config.log.level);
  for (const warning of cpuWarnings(config)) log.warn(warning);
  const folder = await RuntimeDirectory.open(config.control.path);
  const instance = newInstanceName();
  const neighbours = new Peers(folder, instance);
  const gateway = await Gateway.open(config, log, { instance, peers: neighbours });
  const passed = passedSocket(env);
  const door: ListenSpec = passed === undefined ? config.listen : { kind: 'passed', fd: passed };
  const workers = config.workers === 1 ? undefined : workersOf(gateway, door);
  const app = workers ? undefined : gatewayApp(gateway, log);
  const publicDoor = app ? new OwnListener(app, door) : workers!;
  const control = controlOf(gateway, neighbours);
  takeoverRoutes(control, { publicUrl: config.publicUrl, stopAccepting: () => doors.stopAccepting() });
  const succession = new ProcessLifecycle(gateway, instance);
  const figures = new MetricsAggregator();
  const admin = adminApp({
    notReadyReasons: async () => [...gateway.notReadyReasons, ...((await workers?.notReadyReasons()) ?? [])],
    metrics: {
      contentType: gateway.metrics.contentType,
      text: () => figuresOf(gateway, { instance, neighbours, workers, figures }),
    },
  });
  const own = instanceApp(succession, {
    carriers: gateway.carriers,
    onLastFigures: (said) => figures.keep(said),
  });
  const doors: Listeners = new Listeners({
    config,
    public: publicDoor,
    instance,
    folder,
    apps: { admin, control, instance: own },
  });
  // The process that has taken over speaks for the service.
  const notify = async (state: string): Promise<void> => {
    if (doors.areOpen) await notifySystemd(state, env);
  };
  onHangUp(async () => {
    await notify('RELOADING=1');
    gateway.reopenAudit();
    await workers?.reopenAudit();
    await reload();
    await notify('READY=1');
  });
  onUpgrade(log, () => (doors.areOpen ? startSuccessor(publicDoor.fd, env) : undefined));
  const asked = stopSignal(log, () => workers?.kill());
  const stopMs = config.limits.graceMs + marginMs;
  // Before all else: `/readyz` says so at once.
  void asked.then(() => gateway.stop());
  // Those of an old generation hear it from nobody else.
  void asked.then(() => (doors.areOpen ? undefined : workers?.stop(stopMs)));
  try {
    await doors.open(neighbours);
  } catch (error) {
    await closeAll();
    throw error;
  }
  log.info(
    {
      listen: describeDoor(door),
      admin: describeDoor(config.admin),
      publicUrl: config.publicUrl.href,
      instance,
      ...(workers && { workers: config.workers }),
    },
    'listening',
  );
  await notify('READY=1');

  const cause = await Promise.race([asked, doors.stoppedAccepting.then(() => 'takeover')]);
  log.info({ cause, tunnels: gateway.sessions.count }, cause === 'takeover' ? 'handing on' : 'stopping');
  if (cause !== 'takeover') {
    publicDoor.close();
    gateway.resumableTunnels.requestReconnect();
    await notify('STOPPING=1');
    await succession.orElse(neighbours.broadcast('stop', stopMs));
    if (!succession.isSucceeded) workers?.killAfterGrace();
  }
  await gateway.empty();
  if (!workers) await neighbours.sendFinalMetrics({ instance, figures: await gateway.metrics.snapshot() });
  await closeAll();
  log.info('stopped');
  await new Promise<void>((resolve) => log.flush(() => resolve()));
  return cause === 'uncaughtException' ? 1 : 0;

  async function closeAll(): Promise<void> {
    await doors.close();
    // Otherwise its app closes it.
    if (workers) await gateway.close();
  }

  function workersOf({ metrics }: Gateway, at: ListenSpec): Workers {
    const leading = metrics.leadWorkers(() => workers?.alive ?? 0);
    return new Workers({
      count: config.workers,
      door: at,
      generation: instance,
      counts: SharedCounts.make(join(folder.directory, `${instance}.counts`), 2 * config.workers),
      socketOf: (name) => folder.socketOf(name)!,
      configText: () => text,
      onReplaced: () => leading.replaced(),
      log,
      env,
    });
  }

  /** A configuration that cannot be used changes nothing: the old one stays, and the log says why. */
  async function reload(): Promise<void> {
    try {
      const nextText = await readConfigText(values.config);
      const next = parseConfig(nextText, { file: values.config, env });
      const { needsRestart } = reloadConfig(gateway.config, next);
      const certificate = app && next.tls && gateway.config.tls && certificateOf(next.tls);
      const commit = await gateway.prepare(next);
      const commitAll = await workers?.prepare(nextText);
      if (certificate) (app.server as unknown as TlsServer).setSecureContext(certificate);
      commit();
      await commitAll?.();
      text = nextText;
      log.info('configuration reloaded');
      if (needsRestart.length > 0)
        log.warn({ keys: needsRestart }, 'these settings have changed, but take effect after a restart only');
    } catch (error) {
      log.error({ err: error }, 'configuration not reloaded; the old one stays');
    }
  }
}

function gatewayApp(gateway: Gateway, log: Logger): FastifyInstance {
  const app = publicApp(gateway.config, log);
  // A plugin's prefix has no slash at its end.
  app.register(async (mounted) => mount(mounted, gateway), { prefix: gateway.prefix.slice(0, -1) });
  return app;
}

interface FiguresParts {
  readonly instance: string;
  readonly neighbours: Peers;
  readonly workers: Workers | undefined;
  readonly figures: MetricsAggregator;
}

/** Those of all processes of the gateway, old generations too. */
async function figuresOf(
  { metrics }: Gateway,
  { instance, neighbours, workers, figures }: FiguresParts,
): Promise<string> {
  const { answers, living } = await neighbours.metrics();
  const numberOf = (name: string): string | undefined => workers?.numbers.get(name)?.toString();
  return figures.text(
    { instance, worker: workers && '0', figures: await metrics.snapshot() },
    answers.map((answer) => ({ ...answer, worker: numberOf(answer.instance) })),
    living,
  );
}

function unlessThere(error: unknown): void {
  if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
}
