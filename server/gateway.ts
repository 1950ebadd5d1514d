import type { Server } from 'node:http';
import type { FastifyInstance } from 'fastify';
import type { TunnelError } from '../protocol/errors.ts';
import { AuditLog } from './account/audit-log.ts';
import { auditObserver } from './account/audit.ts';
import { logObserver } from './account/log.ts';
import type { Log } from './account/log.ts';
import { Metrics } from './account/metrics.ts';
import { jwtAuthenticator } from './auth/jwt.ts';
import { trustedIssuers } from './auth/issuers.ts';
import { openKeyFile } from './auth/keys.ts';
import type { Config } from './config/config.ts';
import { tcpDialer } from './dial/tcp.ts';
import { requestEntries } from './entry/index.ts';
import type { Incoming, Offer } from './entry/entry.ts';
import { remoteAddressBehind } from './listen/remote-address.ts';
import type { RemoteAddress } from './listen/remote-address.ts';
import { takeTunnelRequests } from './listen/requests.ts';
import { serve } from './pipeline.ts';
import type { Pipeline } from './pipeline.ts';
import { TunnelCounts } from './policy/limits.ts';
import { rulesPolicy } from './policy/rules.ts';
import { Sessions } from './tunnel/sessions.ts';
import { webRoutes } from './web/routes.ts';

/** What a reload replaces, all of it at once. */
interface Settings {
  readonly config: Config;
  readonly pipeline: Pipeline;
  readonly remoteAddress: RemoteAddress;
}

/** All the parts of a gateway, put together from a configuration. It listens to nothing by itself. */
export class Gateway {
  readonly metrics: Metrics;
  readonly sessions: Sessions;
  readonly #log: Log;
  readonly #audit: AuditLog;
  readonly #counts = new TunnelCounts();
  #settings: Settings;
  #draining = false;

  /** Throws when the audit file or the key cannot be used; nothing is left open then. */
  static async open(config: Config, log: Log): Promise<Gateway> {
    const metrics = new Metrics();
    const audit = new AuditLog(config.audit.file, {
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
    await audit.start();
    try {
      return new Gateway(await settingsFrom(config, log), log, audit, metrics);
    } catch (error) {
      await audit.close();
      throw error;
    }
  }

  private constructor(settings: Settings, log: Log, audit: AuditLog, metrics: Metrics) {
    this.#settings = settings;
    this.#log = log;
    this.#audit = audit;
    this.metrics = metrics;
    this.sessions = new Sessions([
      auditObserver(audit, () => this.config.audit.required),
      metrics,
      logObserver(log),
    ]);
  }

  get config(): Config {
    return this.#settings.config;
  }

  /** The path below which everything is, with a slash at both ends. */
  get prefix(): string {
    return this.config.publicUrl.pathname;
  }

  /** Why no new tunnel would open now; empty when ready. */
  get obstacles(): readonly string[] {
    return [
      ...(this.#draining ? ['draining'] : []),
      ...(this.#audit.failure && this.config.audit.required ? ['audit log cannot be written'] : []),
    ];
  }

  /** Registers what browsers and clients see besides tunnels; `app` must be mounted at the prefix. */
  routes(app: FastifyInstance): void {
    webRoutes(app, () => this.config);
  }

  /** Takes tunnel requests from an HTTP server, when all its other listeners are in place. Returns what stops it. */
  attach(server: Server): { release(): void } {
    return takeTunnelRequests(server, {
      entries: requestEntries(this.prefix, this.config.entries),
      prefix: this.prefix,
      origins: () => this.config.origins,
      remoteAddress: (request) => this.#settings.remoteAddress(request),
      onOffer: (offer) => void this.#serve(offer),
      onMalformed: (incoming, asked, error) => this.#recordMalformed(incoming, asked, error),
    });
  }

  /**
   * Puts rules, targets, issuers, limits and the network policy of `config` in place of the old ones, for new tunnels.
   * Where to listen, the prefix, the entries and the audit file stay until a restart. Throws and changes nothing when the
   * new ones cannot be used.
   */
  async reload(config: Config): Promise<void> {
    const { listen, admin, publicUrl, entries } = this.config;
    const audit = { file: this.config.audit.file, required: config.audit.required };
    this.#settings = await settingsFrom({ ...config, listen, admin, publicUrl, entries, audit }, this.#log);
  }

  /** Goes on in a new audit file of the same name, after rotation. */
  reopenAudit(): void {
    this.#audit.reopen();
  }

  /** Refuses new tunnels, waits for the open ones up to the grace time, then ends them. */
  async drain(): Promise<void> {
    this.#draining = true;
    const late = setTimeout(() => this.sessions.endAll('GATEWAY_STOPPED'), this.config.limits.graceMs);
    await this.sessions.empty();
    clearTimeout(late);
  }

  /** Ends what is left at once and closes the audit log. */
  async close(): Promise<void> {
    this.#draining = true;
    this.sessions.endAll('GATEWAY_STOPPED');
    await this.sessions.empty();
    await this.#audit.close();
  }

  #serve(offer: Offer): Promise<void> {
    const premises = { sessions: this.sessions, counts: this.#counts, draining: () => this.#draining };
    return serve(offer, premises, this.#settings.pipeline);
  }

  #recordMalformed({ id, remoteAddress, signal }: Incoming, asked: string, error: TunnelError): void {
    const session = this.sessions.begin({
      entry: 'none',
      id,
      asked,
      remoteAddress,
      signal,
      credentials: { kind: 'none' },
      accept: () => Promise.reject(error),
      reject() {},
    });
    session.end(error.code, { reason: error.message });
  }
}

async function settingsFrom(config: Config, log: Log): Promise<Settings> {
  const issuers = trustedIssuers(config, await openKeyFile(config.keyFile), {
    onTrouble: (issuer, err) => log.warn({ issuer, err }, 'the keys of an issuer cannot be loaded'),
  });
  return {
    config,
    remoteAddress: remoteAddressBehind(config.trustedProxies),
    pipeline: {
      authenticator: jwtAuthenticator(issuers),
      policy: rulesPolicy(config),
      dialer: tcpDialer({
        network: config.network,
        limits: config.limits,
        ownAddresses: [config.listen, config.admin],
      }),
      limits: config.limits,
    },
  };
}
