import type { Server } from 'node:http';
import type { FastifyInstance } from 'fastify';
import type { TunnelError } from '../protocol/errors.ts';
import { AuditLog } from './audit/audit-log.ts';
import { auditObserver, revocationFields, ticketFields } from './audit/audit-observer.ts';
import { logObserver } from './telemetry/log.ts';
import type { Log } from './telemetry/log.ts';
import { Metrics } from './telemetry/metrics.ts';
import type { Authenticator } from './auth/authenticator.ts';
import { minimumDelayMs } from './auth/minimum-delay.ts';
import { proofChecker } from './auth/dpop/dpop.ts';
import type { ProofChecker } from './auth/dpop/dpop.ts';
import { gatewayAuthenticator } from './auth/gateway-authenticator.ts';
import { jwtAuthenticator } from './auth/jwt/jwt-authenticator.ts';
import { trustedIssuers } from './auth/jwt/issuers.ts';
import { openKeyFile, ownMaxLifetimeMs } from './auth/gateway-key.ts';
import { sharedReplayMemory } from './auth/dpop/replay-cache.ts';
import { appliesTo, openRevocations } from './auth/revocations.ts';
import type { Revocations } from './auth/revocations.ts';
import { createTicketStore } from './auth/tickets.ts';
import type { Tickets } from './auth/tickets.ts';
import type { Config } from './config/config.ts';
import { reloadConfig } from './config/reload.ts';
import { addressCheck } from './dial/address-policy.ts';
import { tcpDialer } from './dial/tcp.ts';
import { measureRoutes } from './web/measure.ts';
import { HttpCarriers } from './entry/http-carrier.ts';
import { plainEntries, requestEntries } from './entry/index.ts';
import type { Incoming } from './entry/entry.ts';
import { matches } from './admin/control.ts';
import type { KillRequest } from './admin/control.ts';
import { newInstanceName } from './cluster/runtime-directory.ts';
import { locateTunnel } from './cluster/peers.ts';
import type { Peers } from './cluster/peers.ts';
import { openLogin } from './login/login.ts';
import type { Login } from './login/login.ts';
import { openSigningKeys } from './login/authorization-server/signing-keys.ts';
import type { SigningKeys } from './login/authorization-server/signing-keys.ts';
import { remoteAddressBehind } from './http/client-address.ts';
import type { RemoteAddress } from './http/client-address.ts';
import { plainRoutes } from './http/plain-routes.ts';
import type { PlainRouteOptions } from './http/plain-routes.ts';
import { handleTunnelRequests } from './http/upgrade-dispatcher.ts';
import { resumeTunnel, openTunnel } from './pipeline.ts';
import type { PipelineSettings } from './pipeline.ts';
import type { Counter } from './policy/counter.ts';
import { TunnelLimiter } from './policy/limits.ts';
import { rulesPolicy } from './policy/rules.ts';
import { openEmbeddedStore } from './store/sqlite-store.ts';
import { FileLock } from './store/file-lock.ts';
import type { Store } from './store/store.ts';
import { ResumableTunnels } from './resume/resumable-tunnels.ts';
import { localLocator } from './resume/local-locator.ts';
import type { TunnelLocator } from './resume/tunnel-locator.ts';
import type { Offer, ResumeOffer } from './session/offer.ts';
import { Sessions } from './session/sessions.ts';
import { apiRoutes, authenticate } from './web/api.ts';
import { webRoutes } from './web/routes.ts';

/** What older processes say to their clients when they end with us goes through here. */
const lastWordsMs = 3000;

/** Clocks that are far apart must not bring a token back. */
const dayMs = 24 * 3_600_000;

/** What a reload replaces, all of it at once. */
interface GatewaySettings {
  readonly config: Config;
  /** Of tokens; that of the pipeline takes tickets too. */
  readonly tokens: Authenticator;
  readonly pipeline: PipelineSettings;
  readonly remoteAddress: RemoteAddress;
}

/** What survives a reload, and most of it a restart. */
interface State {
  readonly store: Store;
  readonly revocations: Revocations & { close(): void };
  readonly tickets: Tickets;
  readonly proofs: ProofChecker;
  readonly signingKeys: SigningKeys;
}

/** What a process knows that is one of several of the same gateway. */
export interface ClusterContext {
  /** Names it in the ids of its tunnels. */
  readonly instance: string;
  readonly peers: Peers;
  /** Counts what the others have too; absent: this process counts for itself. */
  readonly counter?: Counter;
  /** Another process writes down what concerns the gateway as a whole. */
  readonly isWorker?: boolean;
}

/** All the parts of a gateway, put together from a configuration. It listens to nothing by itself. */
export class Gateway {
  readonly metrics: Metrics;
  readonly sessions: Sessions;
  readonly resumableTunnels: ResumableTunnels;
  readonly #log: Log;
  readonly #audit: AuditLog;
  readonly #state: State;
  readonly carriers: HttpCarriers;
  readonly #limiter: TunnelLimiter;
  readonly #counter: Counter | undefined;
  readonly #peers: Peers | undefined;
  readonly #tunnels: TunnelLocator;
  #settings: GatewaySettings;
  #login: Login | undefined;
  #draining = false;
  #isSucceeded = false;
  #late: NodeJS.Timeout | undefined;

  /** Throws when the audit file, the store or the key cannot be used; nothing is left open then. */
  static async open(config: Config, log: Log, place?: ClusterContext): Promise<Gateway> {
    const metrics = new Metrics();
    const state = await openState(config, log);
    let audit: AuditLog | undefined;
    try {
      audit = openAudit(config, log, metrics);
      await audit.start();
      const settings = await settingsFrom(config, state, log);
      const gateway = new Gateway({ settings, state, log, audit, metrics }, place);
      gateway.#login = await gateway.#openLogin();
      return gateway;
    } catch (error) {
      await state.store.close();
      await audit?.close();
      throw error;
    }
  }

  private constructor({ settings, state, log, audit, metrics }: Opened, place: ClusterContext | undefined) {
    this.#settings = settings;
    this.#state = state;
    this.#log = log;
    this.#audit = audit;
    this.metrics = metrics;
    this.sessions = new Sessions([
      auditObserver(audit, () => this.config.audit.required),
      metrics,
      logObserver(log),
    ]);
    const { instance = newInstanceName(), counter, isWorker = false } = place ?? {};
    this.carriers = new HttpCarriers(instance);
    this.#counter = counter;
    this.#limiter = new TunnelLimiter(counter);
    this.resumableTunnels = new ResumableTunnels({
      sessions: this.sessions,
      instance,
      ...this.config.resume,
    });
    this.#peers = place?.peers;
    this.#tunnels = place
      ? locateTunnel(instance, localLocator(this.resumableTunnels), place.peers)
      : localLocator(this.resumableTunnels);
    state.revocations.onRevoked((revocation, reason) => {
      // Whoever has taken over writes it down, or whoever leads.
      if (!this.#isSucceeded && !isWorker) audit.appendEventually(revocationFields(revocation, reason));
      this.sessions.endWhere(
        ({ principal }) => principal !== undefined && appliesTo(revocation, principal),
        'REVOKED',
        reason,
      );
    });
  }

  get config(): Config {
    return this.#settings.config;
  }

  /** The path below which everything is, with a slash at both ends. */
  get prefix(): string {
    return this.config.publicUrl.pathname;
  }

  /** Why no new tunnel would open now; empty when ready. */
  get notReadyReasons(): readonly string[] {
    return [
      ...(this.#draining ? ['draining'] : []),
      ...(this.#audit.failure && this.config.audit.required ? ['audit log cannot be written'] : []),
    ];
  }

  /** Registers what browsers and clients see besides tunnels; `app` must be mounted at the prefix. */
  routes(app: FastifyInstance): void {
    webRoutes(app, () => this.config);
    this.#login?.routes(app);
    const authority = {
      authenticator: () => this.#settings.tokens,
      revocations: this.#state.revocations,
    };
    measureRoutes(app, (request) => authenticate(request, authority));
    apiRoutes(app, {
      ...authority,
      rules: () => this.config.rules,
      sessions: this.sessions,
      elsewhere: this.#peers,
      tickets: this.#state.tickets,
      onTicket: (made) => this.#audit.appendEventually(ticketFields(made)),
    });
    plainRoutes(app, {
      ...this.#tunnelRequestHandlers(),
      entries: plainEntries(this.prefix, this.config.entries, {
        relays: () => this.resumableTunnels,
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
      elsewhere: this.#peers,
      config: () => this.config,
      onTicket: (made) => this.#audit.appendEventually(ticketFields(made)),
      remoteAddress: (request) => this.#settings.remoteAddress(request),
      onError: (err) => this.#log.error({ err }, 'a sign-in failed'),
      onSignIn: ({ id, subject, kind, remoteAddress }) =>
        this.#log.info({ signIn: id, subject, kind, client: remoteAddress }, 'signed in'),
      onRefused: (refused) => this.#log.warn(refused, 'sign-in refused'),
    });
  }

  /** Takes tunnel requests from an HTTP server, when all its other listeners are in place. Returns what stops it. */
  attach(server: Server): { release(): void } {
    return handleTunnelRequests(server, {
      ...this.#tunnelRequestHandlers(),
      entries: requestEntries(this.prefix, this.config.entries, () => this.resumableTunnels),
      prefix: this.prefix,
    });
  }

  /** What is done with requests for tunnels, however they come. */
  #tunnelRequestHandlers(): Omit<PlainRouteOptions, 'entries'> {
    return {
      origins: () => this.config.origins,
      remoteAddress: (request) => this.#settings.remoteAddress(request),
      onOffer: (offer) => void this.#openTunnel(offer),
      onMalformed: (incoming, asked, error) => this.#recordMalformed(incoming, asked, error),
    };
  }

  /**
   * Puts the settings of `config` that a reload takes (`reload` in `config/schema.ts`) in place of the old ones, for new
   * tunnels; the others stay until a restart. Throws and changes nothing when the new ones cannot be used.
   */
  async reload(config: Config): Promise<void> {
    const commit = await this.prepare(config);
    commit();
  }

  /** The first half of `reload`. Resolves to what puts the new ones in place, which cannot fail. */
  async prepare(config: Config): Promise<() => void> {
    const reloaded = reloadConfig(this.config, config).config;
    const settings = await settingsFrom(reloaded, this.#state, this.#log);
    return () => {
      this.#settings = settings;
    };
  }

  /** Ends sessions of this process for the operator. Gives how many. */
  end(killing: KillRequest): number {
    return this.sessions.endWhere((record) => matches(killing, record), 'KILLED', killing.reason);
  }

  /** Ends sessions for the operator, and revokes what they could come back with where that is asked. */
  async kill(killing: KillRequest): Promise<number> {
    const { tokenId, keyThumbprint, subject, issuer, revoke, reason } = killing;
    const ended = this.end(killing);
    const { revocations } = this.#state;
    if (tokenId !== undefined) await revocations.revoke({ kind: 'token', tokenId }, reason);
    if (keyThumbprint !== undefined) await revocations.revoke({ kind: 'key', keyThumbprint }, reason);
    if (revoke && subject !== undefined) {
      const from = issuer === undefined ? {} : { issuer };
      await revocations.revoke({ kind: 'subject', subject, ...from, issuedBefore: Date.now() }, reason);
    }
    return ended;
  }

  /** Goes on in a new audit file of the same name, after rotation. */
  reopenAudit(): void {
    this.#audit.reopen();
  }

  /** Refuses new tunnels from now on, and ends the open ones after the grace time. */
  stop(): void {
    this.#draining = true;
    this.#late ??= setTimeout(() => {
      this.sessions.endAll('GATEWAY_STOPPED');
      this.#late = setTimeout(() => this.#peers?.handoff.close(), lastWordsMs);
    }, this.config.limits.graceMs);
  }

  /** Another process has taken over: the open tunnels may last, and their clients shall come back over there. */
  onSuperseded(): void {
    this.#isSucceeded = true;
    clearTimeout(this.#late);
    this.#late = undefined;
    this.resumableTunnels.requestReconnect();
  }

  /** Resolves when no tunnel is open, and none of another process goes through this one. */
  async empty(): Promise<void> {
    await this.sessions.empty();
    await this.#peers?.handoff.empty();
    // Who was still connected may have opened another one meanwhile.
    if (this.sessions.count > 0) return this.empty();
    clearTimeout(this.#late);
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
    this.#state.signingKeys.close();
    this.#state.revocations.close();
    await this.#state.store.close();
    await this.#audit.close();
  }

  #openTunnel(offer: Offer | ResumeOffer): Promise<void> {
    const { revocations } = this.#state;
    const context = {
      sessions: this.sessions,
      tunnels: this.#tunnels,
      limiter: this.#limiter,
      revocations,
      draining: () => this.#draining,
      minimumDelayMs,
    };
    const { pipeline } = this.#settings;
    return offer.kind === 'resume'
      ? resumeTunnel(offer, context, pipeline)
      : openTunnel(offer, context, pipeline);
  }

  #recordMalformed(
    { id, remoteAddress, signal }: Omit<Incoming, 'socket'>,
    asked: string,
    error: TunnelError,
  ): void {
    const session = this.sessions.begin({
      entry: 'none',
      id,
      requested: asked,
      remoteAddress,
      signal,
      credentials: { kind: 'none' },
      reject() {},
    });
    session.end(error.code, { reason: error.message });
  }
}

interface Opened {
  readonly settings: GatewaySettings;
  readonly state: State;
  readonly log: Log;
  readonly audit: AuditLog;
  readonly metrics: Metrics;
}

/** Every process of the gateway has the same store, and so the same lock. */
function openAudit(config: Config, log: Log, metrics: Metrics): AuditLog {
  return new AuditLog(config.audit.file, {
    lock: new FileLock(`${config.store.file}-audit`),
    onState(failure) {
      if (failure) metrics.auditFailed();
      if (failure) log.error({ err: failure }, 'the audit log cannot be written');
      else log.info('the audit log can be written again');
    },
    onLost(count) {
      metrics.auditLost(count);
      log.error({ count }, 'audit records were lost');
    },
  });
}

async function openState(config: Config, log: Log): Promise<State> {
  const store = await openEmbeddedStore(config.store.file);
  try {
    const lifetimes = config.issuers.map((issuer) => issuer.maxLifetimeMs);
    const replays = sharedReplayMemory(await store.seen());
    const signingKeys = await openSigningKeys(store, {
      onError: (err) => log.error({ err }, 'the signing keys cannot be read'),
    });
    const revocations = await openRevocations(store, {
      keepMs: Math.max(ownMaxLifetimeMs, config.signIn.sessionMs, ...lifetimes) + dayMs,
      onError: (err) => log.error({ err }, 'the list of revocations cannot be read'),
    });
    const proofs = proofChecker({ origin: config.publicUrl.origin, replays });
    return { store, revocations, tickets: createTicketStore(store), proofs, signingKeys };
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function settingsFrom(config: Config, state: State, log: Log): Promise<GatewaySettings> {
  const issuers = trustedIssuers(config, await openKeyFile(config.keyFile), {
    signInKeys: state.signingKeys.source,
    onError: (issuer, err) => log.warn({ issuer, err }, 'the keys of an issuer cannot be loaded'),
  });
  const { network, limits } = config;
  const ownAddresses = [config.listen, config.admin];
  const tokens = jwtAuthenticator(issuers, { proofs: state.proofs });
  return {
    config,
    tokens,
    remoteAddress: remoteAddressBehind(config.trustedProxies),
    pipeline: {
      authenticator: gatewayAuthenticator(tokens, state.tickets),
      policy: rulesPolicy(config),
      dialer: tcpDialer({ network, limits, ownAddresses }),
      evaluateAddress: addressCheck({ network, ownAddresses }),
      limits,
    },
  };
}
