import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { adminApp } from '../admin/health.ts';
import { AuditHub } from '../cluster/audit/audit-hub.ts';
import { instanceApp } from '../cluster/peer-api.ts';
import { Peers } from '../cluster/peers.ts';
import { ProcessLifecycle } from '../cluster/process-lifecycle.ts';
import { RuntimeDirectory, newInstanceName } from '../cluster/runtime-directory.ts';
import { SharedCounts } from '../cluster/shared-counter.ts';
import { startSuccessor } from '../cluster/spawn-successor.ts';
import { Supervisor } from '../cluster/supervisor.ts';
import { openOrTakeOver, takeoverRoutes } from '../cluster/takeover.ts';
import type { Config } from '../config/config.ts';
import { reloadConfig } from '../config/reload.ts';
import { recordStart } from '../gateway/start-record.ts';
import { Gateway } from '../gateway.ts';
import { describeListenSpec } from '../listener/listen.ts';
import { Listeners } from '../listener/listeners.ts';
import { passedSockets, publicListeners } from '../listener/passed-sockets.ts';
import type { NamedListenSpec } from '../listener/passed-sockets.ts';
import { OwnListener } from '../listener/public-listener.ts';
import type { PublicListener } from '../listener/public-listener.ts';
import { controlOf } from '../plugin.ts';
import { flushLog } from '../telemetry/log.ts';
import { MetricsAggregator } from '../telemetry/metrics-aggregator.ts';
import { gatewayApp, prepareReload } from './gateway-app.ts';
import type { ProcessCluster } from './process-cluster.ts';
import type { ReloadableConfig } from './reloadable-config.ts';
import { notifySystemd } from './systemd.ts';
import { onHangUp, onReopen, onUpgrade, stopSignal } from './signals.ts';

/** Other processes that stop too can take this much longer than the grace time. */
const marginMs = 5000;

interface GatewayProcessParts {
  readonly settings: ReloadableConfig;
  readonly env: NodeJS.ProcessEnv;
  readonly log: Logger;
  readonly gateway: Gateway;
  readonly cluster: ProcessCluster;
  readonly publicListeners: readonly NamedListenSpec[];
}

/** The process that answers for a gateway: how it starts, reloads, is taken over from, and stops. */
export class GatewayProcess {
  readonly #settings: ReloadableConfig;
  readonly #env: NodeJS.ProcessEnv;
  readonly #log: Logger;
  readonly #gateway: Gateway;
  readonly #cluster: ProcessCluster;
  readonly #lifecycle: ProcessLifecycle;
  readonly #publicListeners: readonly NamedListenSpec[];
  /** Absent where workers carry the tunnels. */
  readonly #app: FastifyInstance | undefined;
  readonly #public: PublicListener;
  readonly #listeners: Listeners;
  #cause = 'failure';
  #generation = 0;

  private constructor(parts: GatewayProcessParts) {
    const { log, gateway, cluster } = parts;
    this.#settings = parts.settings;
    this.#env = parts.env;
    this.#log = log;
    this.#gateway = gateway;
    this.#cluster = cluster;
    this.#publicListeners = parts.publicListeners;
    this.#lifecycle = new ProcessLifecycle(gateway, cluster.instance);
    this.#app = cluster.supervisor ? undefined : gatewayApp(gateway, log);
    this.#public = cluster.supervisor ?? new OwnListener(this.#app!, parts.publicListeners);
    this.#listeners = new Listeners({
      config: this.#config,
      public: this.#public,
      instanceSocket: cluster.directory.socketOf(cluster.instance)!,
      apps: { admin: this.#adminApp(), control: this.#controlApp(), instance: this.#instanceApp() },
    });
  }

  /** Opens a gateway that listens nowhere yet. Rejects as `Gateway.open` does, and leaves nothing open then. */
  static async open(
    settings: ReloadableConfig,
    env: NodeJS.ProcessEnv,
    log: Logger,
  ): Promise<GatewayProcess> {
    const { config } = settings;
    const directory = await RuntimeDirectory.open(config.control.path);
    const instance = newInstanceName();
    const peers = new Peers(directory, instance);
    const gateway = await Gateway.open(config, log, { instance, peers });
    const listeners = publicListeners(config.listen, passedSockets(env));
    let supervisor: Supervisor | undefined;
    if (config.workers > 1) {
      const { replaced } = gateway.metrics.countWorkers({
        alive: () => supervisor?.alive ?? 0,
        silent: () => supervisor?.silent ?? 0,
      });
      supervisor = new Supervisor({
        count: config.workers,
        listeners,
        generation: instance,
        counts: SharedCounts.make(join(directory.directory, `${instance}.counts`), 2 * config.workers),
        socketOf: (name) => directory.socketOf(name)!,
        configText: () => settings.text,
        onReplaced: replaced,
        auditHub: new AuditHub(gateway.audit),
        log,
        env,
      });
    }
    const cluster = { instance, directory, peers, supervisor, metrics: new MetricsAggregator() };
    return new GatewayProcess({ settings, env, log, gateway, cluster, publicListeners: listeners });
  }

  /** Listens, and serves until a signal or a successor ends it. Resolves to what ended it; rejects when it cannot listen. */
  async run(): Promise<string> {
    const { supervisor, directory, peers } = this.#cluster;
    onHangUp(() => this.#onHangUp());
    onReopen(() => void this.#reopenAudit());
    onUpgrade(this.#log, {
      start: () => (this.#listeners.areOpen ? startSuccessor(this.#public.sockets, this.#env) : undefined),
      takenOver: this.#listeners.stoppedAccepting,
    });
    const signal = stopSignal(this.#log, () => supervisor?.kill());
    // Before all else: `/readyz` says so at once.
    void signal.then(() => this.#gateway.stop());
    // Workers of an old generation hear it from no other process.
    void signal.then(() => (this.#listeners.areOpen ? undefined : supervisor?.stop(this.#stopMs)));
    await this.#recordStart();
    try {
      this.#generation = await openOrTakeOver(this.#listeners, { config: this.#config, directory, peers });
      this.#gateway.metrics.setGeneration(this.#generation);
    } catch (error) {
      await this.#close();
      throw error;
    }
    this.#logListening();
    await this.#notify('READY=1');
    await peers.recheck(this.#settings.text);

    const cause = await Promise.race([signal, this.#listeners.stoppedAccepting.then(() => 'takeover')]);
    await this.#end(cause);
    return cause;
  }

  #recordStart(): Promise<void> {
    const { instance, directory } = this.#cluster;
    const { config, text: configText } = this.#settings;
    const [audit, log, cause] = [this.#gateway.audit, this.#log, () => this.#cause];
    return recordStart({ audit, config, configText, instance, directory, log, cause });
  }

  get #config(): Config {
    return this.#settings.config;
  }

  get #stopMs(): number {
    return this.#gateway.config.limits.graceMs + marginMs;
  }

  /** Waits for the open tunnels, here and in older processes where no process takes over, and closes everything. */
  async #end(cause: string): Promise<void> {
    const { instance, peers, supervisor } = this.#cluster;
    const gateway = this.#gateway;
    const isTakeover = cause === 'takeover';
    this.#cause = cause;
    this.#log.info({ cause, tunnels: gateway.sessions.count }, isTakeover ? 'handing on' : 'stopping');
    if (!isTakeover) {
      this.#public.close();
      gateway.resumableTunnels.requestReconnect();
      await this.#notify('STOPPING=1');
      await this.#lifecycle.orElse(peers.broadcast('stop', this.#stopMs));
      if (!this.#lifecycle.isSuperseded) supervisor?.killAfterGrace();
    }
    await gateway.empty();
    if (!supervisor) await peers.sendFinalMetrics({ instance, figures: await gateway.metrics.snapshot() });
    await this.#close();
    this.#log.info('stopped');
    await flushLog(this.#log);
  }

  async #close(): Promise<void> {
    await this.#listeners.close();
    // Otherwise its app closes it.
    if (this.#cluster.supervisor) await this.#gateway.close();
  }

  async #onHangUp(): Promise<void> {
    await this.#notify('RELOADING=1');
    await this.#reopenAudit();
    await this.#reload();
    await this.#notify('READY=1');
  }

  /** Workers of an earlier version write the file themselves. */
  async #reopenAudit(): Promise<void> {
    this.#gateway.reopenAudit();
    this.#log.info('reopening the audit file');
    await this.#cluster.supervisor?.reopenAudit();
  }

  /**
   * A configuration that cannot be used changes nothing: the old one stays, and the log says why. It also names the keys
   * that have changed and wait for a restart.
   */
  async #reload(): Promise<void> {
    try {
      let waiting: readonly string[] = [];
      const changes = await this.#settings.reload(async (config, text) => {
        waiting = reloadConfig(this.#gateway.config, config).needsRestart;
        const commit = await prepareReload(this.#gateway, this.#app, config);
        const commitWorkers = await this.#cluster.supervisor?.prepare(text);
        commit();
        await commitWorkers?.();
      });
      this.#log.info(changes, 'configuration reloaded');
      if (waiting.length > 0)
        this.#log.warn(
          { keys: waiting },
          'these settings have changed, but take effect only after a restart',
        );
      // Tunnels of processes that were taken over from follow the settings that are in force.
      await this.#cluster.peers.recheck(this.#settings.text);
    } catch (error) {
      this.#log.error({ err: error }, 'the configuration was not reloaded; the old one stays in effect');
    }
  }

  /** The process that has taken over speaks for the service. */
  async #notify(state: string): Promise<void> {
    if (this.#listeners.areOpen) await notifySystemd(state, this.#env);
  }

  #logListening(): void {
    const { admin, publicUrl, workers } = this.#config;
    const { instance, supervisor } = this.#cluster;
    this.#log.info(
      {
        listen: this.#publicListeners.map(({ spec }) => describeListenSpec(spec)).join(', '),
        admin: describeListenSpec(admin),
        publicUrl: publicUrl.href,
        instance,
        generation: this.#generation,
        ...(supervisor && { workers }),
      },
      'listening',
    );
  }

  #controlApp(): FastifyInstance {
    const { peers, supervisor } = this.#cluster;
    peers.describeBy((name) => supervisor?.describe(name) ?? `process ${name}`);
    const control = controlOf(this.#gateway, peers);
    const generation = (): number => this.#generation;
    takeoverRoutes(control, {
      publicUrl: this.#config.publicUrl,
      get generation() {
        return generation();
      },
      stopAccepting: () => this.#listeners.stopAccepting(),
    });
    return control;
  }

  #adminApp(): FastifyInstance {
    const { supervisor } = this.#cluster;
    return adminApp({
      generation: () => this.#generation,
      notReadyReasons: async () => [
        ...this.#gateway.notReadyReasons,
        ...(supervisor?.notReadyReasons() ?? []),
      ],
      metrics: { contentType: this.#gateway.metrics.contentType, text: () => this.#metricsText() },
    });
  }

  #instanceApp(): FastifyInstance {
    return instanceApp(this.#lifecycle, {
      carriers: this.#gateway.carriers,
      onFinalMetrics: (metrics) => this.#cluster.metrics.keep(metrics),
      recheck: (text) => this.#gateway.recheck(this.#settings.parse(text)),
    });
  }

  /** The metrics of all processes of the gateway, those of old generations too. */
  async #metricsText(): Promise<string> {
    const { instance, peers, supervisor, metrics } = this.#cluster;
    const living = await peers.metrics((answer) =>
      metrics.keep({ ...answer, worker: supervisor?.numbers.get(answer.instance)?.toString() }),
    );
    const figures = await this.#gateway.metrics.snapshot();
    return metrics.text({ instance, worker: supervisor && '0', figures }, [], living);
  }
}
