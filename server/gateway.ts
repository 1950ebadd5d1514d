import type { IncomingMessage, Server } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { WorkPacer } from '../base/work-pacer.ts';
import type { KillRequest, KillResult } from './admin/control.ts';
import { endSessions, killSessions } from './admin/kill.ts';
import type { AuditLog } from './audit/audit-log.ts';
import { auditObserver, revocationFields, ticketFields } from './audit/audit-observer.ts';
import { minimumDelayMs } from './auth/minimum-delay.ts';
import { reloadKeyFile } from './auth/remembered-key.ts';
import { appliesTo } from './auth/revocation.ts';
import { locateTunnel } from './cluster/peers.ts';
import type { Peers } from './cluster/peers.ts';
import type { Config } from './config/config.ts';
import { HttpCarriers } from './entry/http-carrier.ts';
import { plainEntries, requestEntries } from './entry/index.ts';
import type { ClusterContext } from './gateway/cluster-context.ts';
import { openLimiter } from './gateway/limiter.ts';
import { loginLog } from './gateway/login-log.ts';
import { closeParts, openParts } from './gateway/parts.ts';
import type { GatewayParts } from './gateway/parts.ts';
import { reloadConfig } from './config/reload.ts';
import { PolicyRecheck } from './gateway/recheck.ts';
import { buildSettings } from './gateway/settings.ts';
import type { GatewaySettings } from './gateway/settings.ts';
import type { GatewayState } from './gateway/state.ts';
import { plainRoutes } from './http/plain-routes.ts';
import type { PlainRouteOptions } from './http/plain-routes.ts';
import { handleTunnelRequests } from './http/upgrade-dispatcher.ts';
import { openLogin } from './login/login.ts';
import type { Login } from './login/login.ts';
import { openTunnel, resumeTunnel } from './pipeline.ts';
import type { TunnelContext } from './pipeline.ts';
import type { Counter } from './policy/counter.ts';
import { localLocator } from './resume/local-locator.ts';
import { ResumableTunnels } from './resume/resumable-tunnels.ts';
import type { TunnelLocator } from './resume/tunnel-locator.ts';
import type { Offer, ResumeOffer } from './session/offer.ts';
import { Sessions } from './session/sessions.ts';
import { logObserver } from './telemetry/log.ts';
import type { Log } from './telemetry/log.ts';
import type { Metrics } from './telemetry/metrics.ts';
import { apiRoutes, authenticate } from './web/api.ts';
import { measureRoutes } from './web/measure.ts';
import { webRoutes } from './web/routes.ts';

/** Time for the last messages of older processes, which end with this one, to reach their clients through it. */
const lastMessagesMs = 3000;

/** All the parts of a gateway, put together from a configuration. It listens to nothing by itself. */
export class Gateway {
  readonly metrics: Metrics;
  readonly audit: AuditLog;
  readonly sessions: Sessions;
  readonly resumableTunnels: ResumableTunnels;
  readonly carriers: HttpCarriers;
  readonly pacer: WorkPacer;
  readonly #log: Log;
  readonly #state: GatewayState;
  readonly #counter: Counter | undefined;
  readonly #peers: Peers | undefined;
  readonly #tunnelContext: TunnelContext;
  readonly #recheck: PolicyRecheck;
  #settings: GatewaySettings;
  #login: Login | undefined;
  #draining = false;
  #isSuperseded = false;
  #graceTimer: NodeJS.Timeout | undefined;

  /** Rejects when the audit file, the store or the key cannot be used; nothing is left open then. */
  static async open(config: Config, log: Log, cluster?: ClusterContext): Promise<Gateway> {
    const parts = await openParts(config, log, cluster);
    try {
      const gateway = new Gateway(parts, cluster);
      gateway.#login = await gateway.#openLogin();
      return gateway;
    } catch (error) {
      await closeParts(parts);
      throw error;
    }
  }

  private constructor(
    { settings, state, log, audit, metrics, instance, others }: GatewayParts,
    cluster: ClusterContext | undefined,
  ) {
    this.#settings = settings;
    this.#state = state;
    this.#log = log;
    this.audit = audit;
    this.metrics = metrics;
    this.#recheck = new PolicyRecheck(() => this.sessions, log);
    const audited = auditObserver(audit, () => this.config.audit.required, instance);
    this.sessions = new Sessions([audited, metrics, logObserver(log), this.#recheck]);
    const { counter, isWorker = false, peers } = cluster ?? {};
    this.carriers = new HttpCarriers(instance);
    this.pacer = metrics.countWaiting();
    this.#counter = counter;
    this.#peers = peers;
    const { sessions } = this;
    this.resumableTunnels = new ResumableTunnels({ sessions, instance, ...this.config.resume });
    const local = localLocator(this.resumableTunnels);
    this.#tunnelContext = this.#createTunnelContext(locateTunnel(instance, local, others));
    state.revocations.onRevoked((revocation, reason) => {
      // The process that has taken over records it, or the supervisor.
      if (!this.#isSuperseded && !isWorker) audit.appendEventually(revocationFields(revocation, reason));
      this.sessions.endWhere(
        ({ principal }) => principal !== undefined && appliesTo(revocation, principal),
        'REVOKED',
        reason,
      );
    });
  }

  /** By the proxies that are trusted now. */
  readonly remoteAddress = (request: IncomingMessage): string => this.#settings.remoteAddress(request);

  get config(): Config {
    return this.#settings.config;
  }

  /** The path of everything the gateway serves, with a slash at both ends. */
  get prefix(): string {
    return this.config.publicUrl.pathname;
  }

  /** Why no new tunnel would open now; empty when ready. */
  get notReadyReasons(): readonly string[] {
    return [
      ...(this.#draining ? ['draining'] : []),
      ...(this.audit.failure && this.config.audit.required ? ['audit log cannot be written'] : []),
      ...this.#state.notReadyReasons(),
    ];
  }

  /** Registers the routes of browsers and clients, tunnels by plain requests included; `app` must be mounted at the prefix. */
  routes(app: FastifyInstance): void {
    const authority = {
      authenticator: () => this.#settings.tokens,
      revocations: this.#state.revocations,
      remoteAddress: this.remoteAddress,
    };
    webRoutes(app, { ...authority, config: () => this.config, log: this.#log });
    this.#login?.routes(app);
    measureRoutes(app, (request) => authenticate(request, authority));
    apiRoutes(app, {
      ...authority,
      rules: () => this.config.rules,
      sessions: this.sessions,
      peers: this.#peers,
      tickets: this.#state.tickets,
      signInEnd: async (id) => this.#login?.signInEnd(id),
      onTicket: (made) => this.audit.appendEventually(ticketFields(made)),
    });
    plainRoutes(app, {
      ...this.#tunnelRequestHandlers(),
      entries: plainEntries(this.prefix, this.config.entries, {
        tunnels: () => this.resumableTunnels,
        carriers: this.carriers,
        peers: this.#peers,
      }),
    });
  }

  #openLogin(): Promise<Login> {
    const { store, revocations, tickets, signingKeys } = this.#state;
    return openLogin({
      store,
      revocations,
      tickets,
      keys: signingKeys,
      counter: this.#counter,
      sessions: this.sessions,
      peers: this.#peers,
      config: () => this.config,
      onTicket: (made) => this.audit.appendEventually(ticketFields(made)),
      remoteAddress: this.remoteAddress,
      ...loginLog(this.#log),
    });
  }

  /** Handles the tunnel requests of an HTTP server; call it when all its other listeners are in place. `release` stops it. */
  attach(server: Server): { release(): void } {
    return handleTunnelRequests(server, {
      ...this.#tunnelRequestHandlers(),
      entries: requestEntries(this.prefix, this.config.entries, () => this.resumableTunnels),
      prefix: this.prefix,
    });
  }

  /** The handlers of requests for tunnels, whatever entry they come through. */
  #tunnelRequestHandlers(): Omit<PlainRouteOptions, 'entries'> {
    return {
      origins: () => this.config.origins,
      ownOrigin: this.config.publicUrl.origin,
      remoteAddress: this.remoteAddress,
      onOffer: (offer) => void this.#handleOffer(offer),
      onMalformed: ({ id, remoteAddress }, requested, { code, message: reason }) =>
        this.sessions.begin({ entry: 'none', id, requested, remoteAddress }).end(code, { reason }),
    };
  }

  /**
   * Puts the settings that the schema declares as `reload` in place of the old ones, for new tunnels, and ends those open
   * tunnels that they no longer allow. Throws and changes nothing when the new ones cannot be used.
   */
  async reload(config: Config): Promise<void> {
    (await this.prepare(config))();
  }

  /** The first half. Resolves to the function that puts the new parts in place, which cannot fail. */
  async prepare(config: Config): Promise<() => void> {
    const { config: next } = reloadConfig(this.config, config);
    const openKey = reloadKeyFile.bind(undefined, next.keyFile);
    const settings = await buildSettings(next, this.#state, openKey);
    return () => {
      this.#settings = settings;
      void this.recheck(settings.config);
    };
  }

  /** Ends the tunnels that these settings, of another process of the gateway, no longer allow. */
  recheck(config: Config): Promise<void> {
    return this.#recheck.run(reloadConfig(this.config, config).config);
  }

  /** Ends sessions of this process for the operator, where another process revokes. Returns how many. */
  end(request: KillRequest): number {
    return endSessions(this.sessions, this.#state.revocations, request);
  }

  /** Ends them, and revokes the credentials they could come back with. */
  kill(request: KillRequest): Promise<KillResult> {
    return killSessions(this.sessions, this.#state.revocations, request);
  }

  /** Continues in a new audit file of the same name, after rotation. */
  reopenAudit(): void {
    this.audit.reopen();
  }

  /** Refuses new tunnels from now on, and ends the open ones after the grace time. */
  stop(): void {
    this.#draining = true;
    this.#graceTimer ??= setTimeout(() => {
      this.sessions.endAll('GATEWAY_STOPPED');
      this.#graceTimer = setTimeout(() => this.#peers?.handoff.close(), lastMessagesMs);
    }, this.config.limits.graceMs);
  }

  /** Another process has taken over: open tunnels can last, and their clients are asked to reconnect, to that process. */
  onSuperseded(): void {
    this.#isSuperseded = true;
    clearTimeout(this.#graceTimer);
    this.#graceTimer = undefined;
    this.resumableTunnels.requestReconnect();
  }

  /** Resolves when no tunnel is open, and no connection to a tunnel of another process goes through this one. */
  async empty(): Promise<void> {
    await this.sessions.empty();
    await this.#peers?.handoff.empty();
    // A client that was still connected can have opened another one meanwhile.
    if (this.sessions.count > 0) return this.empty();
    clearTimeout(this.#graceTimer);
  }

  /** Refuses new tunnels, waits for the open ones up to the grace time, then ends them. */
  async drain(): Promise<void> {
    this.stop();
    await this.empty();
  }

  /** Ends what is left at once and closes the audit log. */
  async close(): Promise<void> {
    this.#draining = true;
    this.sessions.endAll('GATEWAY_STOPPED');
    this.#peers?.handoff.close();
    await this.empty();
    this.#login?.close();
    await closeParts({ state: this.#state, audit: this.audit });
  }

  #createTunnelContext(tunnels: TunnelLocator): TunnelContext {
    return {
      sessions: this.sessions,
      tunnels,
      limiter: openLimiter({ counter: this.#counter, sessions: this.sessions, peers: this.#peers }),
      revocations: this.#state.revocations,
      draining: () => this.#draining,
      pacer: this.pacer,
      minimumDelayMs,
    };
  }

  #handleOffer(offer: Offer | ResumeOffer): Promise<void> {
    const { pipeline } = this.#settings;
    if (offer.kind === 'resume') return resumeTunnel(offer, this.#tunnelContext, pipeline);
    return openTunnel(offer, this.#tunnelContext, pipeline);
  }
}
