import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from '@prometheus-io/client';
import { WorkPacer } from '../../base/work-pacer.ts';
import { isTunnelErrorCode } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { CarrierEnd } from '../../stream/carrier.ts';
import type { SessionObserver } from '../session/sessions.ts';
import { version } from '../runtime/version.ts';

/** The layer in which a connection was lost, as far as its end shows it. */
const layers: Readonly<Record<CarrierEnd['how'], string>> = {
  closed: 'websocket',
  reset: 'tcp',
  dropped: 'tcp',
  silent: 'network',
  replaced: 'client',
  violation: 'relay',
};

/** All metrics of a process, in JSON. */
export type MetricsSnapshot = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** The gateway's metrics, in the text format of Prometheus; no user and no target is a label. */
export class Metrics implements SessionObserver {
  readonly #registry = registryOfProcess();
  readonly #active = this.#gauge('tunnels_active', 'Tunnels that are open', ['entry']);
  readonly #opened = this.#counter('tunnels_opened_total', 'Tunnels that were opened', ['entry']);
  readonly #refused = this.#counter(
    'offers_refused_total',
    'Requests for a tunnel that were refused, by code (docs/errors.md)',
    ['entry', 'code'],
  );
  readonly #abandoned = this.#counter(
    'offers_abandoned_total',
    'Requests for a tunnel whose client left, or whose process ended, before they were answered',
    ['entry'],
  );
  readonly #closed = this.#counter('tunnels_closed_total', 'Tunnels that are over, by cause', [
    'entry',
    'cause',
  ]);
  readonly #bytes = this.#counter(
    'tunnel_bytes_total',
    'Bytes through tunnels that are over, by the side that sent them',
    ['direction'],
  );
  readonly #dialSeconds = this.#histogram(
    'dial_duration_seconds',
    'Time to resolve and reach a target, or to fail to, by code (docs/errors.md)',
    [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
    ['code'],
  );
  readonly #tunnelSeconds = this.#histogram('tunnel_duration_seconds', 'How long tunnels were open', [
    1,
    10,
    60,
    600,
    3600,
    6 * 3600,
    24 * 3600,
  ]);
  readonly #detached = this.#gauge('tunnels_detached', 'Resumable tunnels that wait for another connection');
  readonly #disconnects = this.#counter(
    'disconnects_total',
    'Connections that resumable tunnels have lost, by how the gateway saw it and in which layer',
    ['how', 'layer'],
  );
  readonly #resumes = this.#counter(
    'resumes_total',
    'Resumable tunnels that were resumed on another connection, by the cause that the client gives',
    ['cause'],
  );
  readonly #resumeSeconds = this.#histogram(
    'resume_seconds',
    'How long resumable tunnels had no connection; 0 when the new one came first',
    [0, 0.1, 0.5, 1, 2, 5, 15, 60, 300, 900],
  );
  readonly #replayedBytes = this.#counter(
    'replayed_bytes_total',
    'Bytes that were sent to clients once more',
  );
  readonly #waitSeconds = this.#histogram(
    'offer_wait_seconds',
    'How long requests for a tunnel waited for their turn, once or several times each; not those that did not have to',
    [0.005, 0.02, 0.1, 0.5, 1, 2, 5],
  );
  readonly #connectionsClosed = this.#counter(
    'connections_refused_total',
    'Connections that were closed because their address, or all together, had too many',
    ['limit'],
  );
  readonly #acceptErrors = this.#counter('accept_errors_total', 'Connections that could not be accepted');
  readonly #unreadable = this.#counter(
    'requests_unreadable_total',
    'Requests that were refused by the HTTP parser, by code (docs/errors.md)',
    ['code'],
  );
  readonly #auditFailures = this.#counter('audit_failures_total', 'Times the audit log began to fail');
  readonly #auditLost = this.#counter('audit_records_lost_total', 'Audit records that could not be kept');
  readonly #auditChanges = this.#counter(
    'audit_file_changes_total',
    'Changes to the audit file that the gateway did not make, by how',
    ['how'],
  );

  readonly #info = new Gauge({
    name: 'postern_build_info',
    help: 'Always 1; the labels say what runs. generation is that of the process that answers for the gateway: it rises by 1 with each upgrade',
    labelNames: ['version', 'node', 'generation'],
    aggregator: 'first',
    registers: [this.#registry],
  });

  constructor() {
    this.#info.set({ version, node: process.version }, 1);
  }

  /** For the process that answers for the gateway. */
  setGeneration(generation: number): void {
    this.#info.reset();
    this.#info.set({ version, node: process.version, generation: String(generation) }, 1);
  }

  readonly dialled: NonNullable<SessionObserver['dialled']> = (_record, { code, dialMs }) => {
    this.#dialSeconds.observe({ code }, dialMs / 1000);
  };

  readonly opened: NonNullable<SessionObserver['opened']> = ({ entry }) => {
    this.#opened.inc({ entry });
    this.#active.inc({ entry });
  };

  readonly detached: NonNullable<SessionObserver['detached']> = (_record, how) => {
    this.#detached.inc();
    this.#disconnects.inc({ how, layer: layers[how] });
  };

  readonly resumed: NonNullable<SessionObserver['resumed']> = (_record, resume) => {
    if (resume.wasDetached) this.#detached.dec();
    this.#resumes.inc({ cause: resume.cause });
    this.#resumeSeconds.observe(resume.awayMs / 1000);
    this.#replayedBytes.inc(resume.replayedBytes);
  };

  readonly ended: SessionObserver['ended'] = (record) => {
    const { entry, end, openedAt, endedAt } = record;
    if (end === 'RESUMED') return;
    if (record.detachedAt !== undefined) this.#detached.dec();
    if (openedAt === undefined)
      return isTunnelErrorCode(end)
        ? this.#refused.inc({ entry, code: end })
        : this.#abandoned.inc({ entry });
    this.#closed.inc({ entry, cause: end ?? 'CLOSED' });
    this.#active.dec({ entry });
    this.#bytes.inc({ direction: 'from_client' }, record.bytesFromClient);
    this.#bytes.inc({ direction: 'from_target' }, record.bytesFromTarget);
    this.#tunnelSeconds.observe((endedAt! - openedAt) / 1000);
  };

  /** `limit`: `address`, or `total`. */
  connectionRefused(limit: string): void {
    this.#connectionsClosed.inc({ limit });
  }

  acceptFailed(): void {
    this.#acceptErrors.inc();
  }

  /** Adds the connections of callers that are open. */
  countConnections(open: () => number): void {
    const connections: Gauge = new Gauge({
      name: 'postern_connections',
      help: 'Connections of callers and web proxies that are open, with and without a tunnel',
      registers: [this.#registry],
      collect: (): void => connections.set(open()),
    });
  }

  /** WorkPacer whose waiting callers are counted. */
  countWaiting(): WorkPacer {
    const pacer = new WorkPacer({ onWaited: (ms) => this.#waitSeconds.observe(ms / 1000) });
    const waiting: Gauge = new Gauge({
      name: 'postern_offers_waiting',
      help: 'Requests for a tunnel that wait for their turn, because many have come at once',
      registers: [this.#registry],
      collect: (): void => waiting.set(pacer.waiting),
    });
    return pacer;
  }

  unreadable(code: TunnelErrorCode): void {
    this.#unreadable.inc({ code });
  }

  auditFailed(): void {
    this.#auditFailures.inc();
  }

  auditLost(count: number): void {
    this.#auditLost.inc(count);
  }

  auditChanged(how: string): void {
    this.#auditChanges.inc({ how });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** For another process of the gateway, which adds them to its own. */
  snapshot(): Promise<MetricsSnapshot> {
    return this.#registry.getMetricsAsJSON();
  }

  /** Adds what a supervisor counts: the workers that are alive, those that do not answer, and how often one had to be replaced. */
  countWorkers({ alive, silent }: { readonly alive: () => number; readonly silent: () => number }): {
    readonly replaced: () => void;
  } {
    const workers: Gauge = new Gauge({
      name: 'postern_workers',
      help: 'Processes that carry tunnels',
      registers: [this.#registry],
      collect: (): void => workers.set(alive()),
    });
    const silentWorkers: Gauge = new Gauge({
      name: 'postern_workers_silent',
      help: 'Workers that have not answered for 10 seconds: others take their callers, and their figures are those of their last answer',
      registers: [this.#registry],
      collect: (): void => silentWorkers.set(silent()),
    });
    const replaced = this.#counter(
      'workers_replaced_total',
      'Workers that ended by themselves and were replaced',
    );
    return { replaced: () => replaced.inc() };
  }

  #gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[] = []): Gauge<Label> {
    return new Gauge({
      name: `postern_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
    });
  }

  #counter<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[] = [],
  ): Counter<Label> {
    return new Counter({
      name: `postern_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
    });
  }

  #histogram<Label extends string>(
    name: string,
    help: string,
    buckets: readonly number[],
    labelNames: readonly Label[] = [],
  ): Histogram<Label> {
    return new Histogram({
      name: `postern_${name}`,
      help,
      labelNames: [...labelNames],
      buckets: [...buckets],
      registers: [this.#registry],
    });
  }
}

/** With what Prometheus clients report of every process: memory, CPU time, the event loop. */
function registryOfProcess(): Registry {
  const register = new Registry();
  collectDefaultMetrics({ register });
  return register;
}
