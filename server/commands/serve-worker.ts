import { once } from 'node:events';
import { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { flushLog, standardLog } from '../telemetry/log.ts';
import type { Config } from '../config/config.ts';
import { parseConfig } from '../config/parse.ts';
import { Gateway } from '../gateway.ts';
import { AuditChannel } from '../cluster/audit/audit-channel.ts';
import { RuntimeDirectory, newInstanceName } from '../cluster/runtime-directory.ts';
import { instanceApp } from '../cluster/peer-api.ts';
import { peerVersion, workerOrders, workerRequest } from '../cluster/peer-messages.ts';
import type { WorkerNotice } from '../cluster/peer-messages.ts';
import { Peers } from '../cluster/peers.ts';
import { ProcessLifecycle } from '../cluster/process-lifecycle.ts';
import { SharedCounts } from '../cluster/shared-counter.ts';
import { workerRoutes } from '../cluster/worker-api.ts';
import { workerDescriptors } from '../cluster/worker-context.ts';
import type { StartedWorker } from '../cluster/worker-context.ts';
import { listenForTakeover } from '../listener/listen.ts';
import { OwnListener } from '../listener/public-listener.ts';
import type { CommandIo } from './command.ts';
import { gatewayApp, prepareReload } from './gateway-app.ts';
import { workerSignals } from './signals.ts';

/**
 * A process that carries tunnels for its supervisor, and does nothing else: it ends when that says so, when that has
 * ended, or when it fails, as soon as its tunnels have ended or the grace time is over. Resolves to the exit code.
 */
export async function serveAsWorker(
  file: string,
  context: StartedWorker,
  env: CommandIo['env'],
): Promise<number> {
  const orphaned = once(process, 'disconnect').then(() => 'disconnect' as const);
  const orders: unknown = await Promise.race([
    once(process, 'message').then(([message]: unknown[]) => message),
    orphaned.then(() => undefined),
  ]);
  if (orders === undefined) return 1;
  const read = (text: string): Config => shareOf(parseConfig(text, { file, env }), context);
  const worker = await openWorker(read(workerOrders.parse(orders).configText), read, { context, env });
  const { gateway, lifecycle, listener, log, stopped } = worker;
  const failed = workerSignals(log);
  await listenAsWorker(worker);
  answerSupervisor(worker, context);
  report(context, { listening: worker.instance, answers: true });
  log.info({ instance: worker.instance }, 'worker listening');

  const cause = await Promise.race([stopped, failed, orphaned]);
  log.info({ cause, tunnels: gateway.sessions.count }, 'worker ending');
  if (cause !== 'yield') {
    listener.close();
    gateway.stop();
    if (cause === 'uncaughtException') report(context, { failing: true });
  }
  // No other process would tell one that accepts nothing any more, if none has taken over.
  void orphaned.then(() => lifecycle.isSuperseded || gateway.stop());
  await gateway.empty();
  await endWorker(worker, context);
  return cause === 'uncaughtException' ? 1 : 0;
}

/** Answers pings from the event loop that the tunnels are on, and serves connections that another worker has not accepted. */
function answerSupervisor({ gateway, listener }: OpenWorker, context: StartedWorker): void {
  process.on('message', (message: unknown, connection: unknown) => {
    const { data } = workerRequest.safeParse(message);
    if (data === undefined) return;
    if ('ping' in data) report(context, { pong: [...gateway.notReadyReasons] });
    else if (connection instanceof Socket) listener.serve(connection);
  });
}

interface OpenWorker {
  readonly instance: string;
  readonly log: Logger;
  readonly gateway: Gateway;
  readonly lifecycle: ProcessLifecycle;
  readonly listener: OwnListener;
  readonly peers: Peers;
  readonly directory: RuntimeDirectory;
  /** Answers the other processes of the gateway. */
  readonly instanceApp: FastifyInstance;
  /** Resolves when the supervisor has asked to accept no new connections. */
  readonly stopped: Promise<'yield'>;
}

/** Opens the gateway of a worker, which listens nowhere yet. Rejects as `Gateway.open` does. */
async function openWorker(
  config: Config,
  read: (text: string) => Config,
  { context, env }: { readonly context: StartedWorker; readonly env: CommandIo['env'] },
): Promise<OpenWorker> {
  const log = standardLog(config.log.level, context.number);
  const directory = await RuntimeDirectory.open(config.control.path);
  const instance = newInstanceName();
  const peers = new Peers(directory, instance);
  const { sockets, counts } = workerDescriptors(env);
  const counter = SharedCounts.passed(counts, context.columns).counter(context.column);
  const gateway = await Gateway.open(config, log, {
    instance,
    peers,
    counter,
    isWorker: true,
    ...(context.writesAudit && { auditSink: (file) => new AuditChannel(file, process) }),
  });
  const app = gatewayApp(gateway, log, counter);
  const listener = new OwnListener(
    app,
    sockets.map(({ name, fd }) => ({ name, spec: { kind: 'passed', fd } })),
  );
  const lifecycle = new ProcessLifecycle(gateway, context.generation);
  const own = instanceApp(lifecycle, {
    carriers: gateway.carriers,
    recheck: (text) => gateway.recheck(read(text)),
  });
  const stopped = Promise.withResolvers<'yield'>();
  workerRoutes(own, {
    get notReadyReasons() {
      return gateway.notReadyReasons;
    },
    reopenAudit: () => gateway.reopenAudit(),
    prepare: (text) => prepareReload(gateway, app, read(text)),
    stopAccepting() {
      void listener.stopAccepting();
      stopped.resolve('yield');
    },
  });
  const parts = { instance, log, gateway, lifecycle, listener, peers, directory };
  return { ...parts, instanceApp: own, stopped: stopped.promise };
}

async function listenAsWorker({
  instance,
  directory,
  instanceApp: own,
  listener,
}: OpenWorker): Promise<void> {
  await own.ready();
  const spec = { kind: 'unix', path: directory.socketOf(instance)! } as const;
  await listenForTakeover(own.server, spec, { access: 'owner', mode: 'takeover' });
  await listener.open('takeover');
}

/** When the last tunnel has ended: sends what it has counted, and closes everything. */
async function endWorker(worker: OpenWorker, { number }: StartedWorker): Promise<void> {
  const { instance, gateway, peers, directory, log } = worker;
  const figures = await gateway.metrics.snapshot();
  await peers.sendFinalMetrics({ instance, worker: String(number), figures });
  await worker.listener.end();
  await worker.instanceApp.close();
  await directory.remove(directory.socketOf(instance)!);
  log.info('worker stopped');
  await flushLog(log);
  if (process.connected) process.disconnect?.();
}

/** The worker's share of the bytes that all of them together are allowed to keep. */
function shareOf(config: Config, { workers }: StartedWorker): Config {
  const totalBytes = Math.max(config.resume.windowBytes, Math.floor(config.resume.totalBytes / workers));
  return { ...config, resume: { ...config.resume, totalBytes } };
}

/** Sends a notice to the supervisor, in the version that it reads. A supervisor that has ended receives nothing. */
function report({ supervisorVersion }: StartedWorker, notice: WorkerNotice): void {
  const message = supervisorVersion === 0 ? notice : { v: peerVersion, ...notice };
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}
