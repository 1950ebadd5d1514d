import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from '@prometheus-io/client';
import { isTunnelErrorCode } from '../../protocol/errors.ts';
import type { CarrierEnd } from '../../stream/carrier.ts';
import type { SessionObserver } from '../session/sessions.ts';
import { version } from '../runtime/version.ts';

/** Where a connection was lost, as far as its end says. */
const layers: Readonly<Record<CarrierEnd['how'], string>> = {
  closed: 'websocket',
  reset: 'tcp',
  dropped: 'tcp',
  silent: 'network',
  replaced: 'client',
  violation: 'relay',
};

/** All figures of a process. */
export type Figures = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

/** The gateway's figures, in the text format of Prometheus; no user and no target is a label. */
export class Metrics implements SessionObserver {
  readonly #registry = new Registry();
  readonly #active: Gauge<'entry'>;
  readonly #opened: Counter<'entry'>;
  readonly #refused: Counter<'entry' | 'code'>;
  readonly #closed: Counter<'entry' | 'cause'>;
  readonly #bytes: Counter<'direction'>;
  readonly #dialSeconds: Histogram;
  readonly #tunnelSeconds: Histogram;
  readonly #detached: Gauge;
  readonly #disconnects: Counter<'how' | 'layer'>;
  readonly #resumes: Counter<'cause'>;
  readonly #resumeSeconds: Histogram;
  readonly #replayedBytes: Counter;
  readonly #auditFailures: Counter;
  readonly #auditLost: Counter;

  constructor() {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    this.#active = new Gauge({
      name: 'postern_tunnels_active',
      help: 'Tunnels that are open',
      labelNames: ['entry'],
      registers,
    });
    this.#opened = new Counter({
      name: 'postern_tunnels_opened_total',
      help: 'Tunnels that were opened',
      labelNames: ['entry'],
      registers,
    });
    this.#refused = new Counter({
      name: 'postern_offers_refused_total',
      help: 'Requests for a tunnel that were refused, by code (docs/errors.md)',
      labelNames: ['entry', 'code'],
      registers,
    });
    this.#closed = new Counter({
      name: 'postern_tunnels_closed_total',
      help: 'Tunnels that are over, by cause',
      labelNames: ['entry', 'cause'],
      registers,
    });
    this.#bytes = new Counter({
      name: 'postern_tunnel_bytes_total',
      help: 'Bytes through tunnels that are over, by who sent them',
      labelNames: ['direction'],
      registers,
    });
    this.#dialSeconds = new Histogram({
      name: 'postern_dial_duration_seconds',
      help: 'Time to resolve and reach a target',
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10],
      registers,
    });
    this.#tunnelSeconds = new Histogram({
      name: 'postern_tunnel_duration_seconds',
      help: 'How long tunnels were open',
      buckets: [1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600],
      registers,
    });
    this.#detached = new Gauge({
      name: 'postern_tunnels_detached',
      help: 'Resumable tunnels that wait for another connection',
      registers,
    });
    this.#disconnects = new Counter({
      name: 'postern_disconnects_total',
      help: 'Connections that resumable tunnels have lost, by how the gateway saw it and in which layer',
      labelNames: ['how', 'layer'],
      registers,
    });
    this.#resumes = new Counter({
      name: 'postern_resumes_total',
      help: 'Resumable tunnels that went on on another connection, by the cause that the client gives',
      labelNames: ['cause'],
      registers,
    });
    this.#resumeSeconds = new Histogram({
      name: 'postern_resume_seconds',
      help: 'How long resumable tunnels had no connection; 0 when the new one came first',
      buckets: [0, 0.1, 0.5, 1, 2, 5, 15, 60, 300, 900],
      registers,
    });
    this.#replayedBytes = new Counter({
      name: 'postern_replayed_bytes_total',
      help: 'Bytes that were sent to clients once more',
      registers,
    });
    this.#auditFailures = new Counter({
      name: 'postern_audit_failures_total',
      help: 'Times the audit log began to fail',
      registers,
    });
    this.#auditLost = new Counter({
      name: 'postern_audit_records_lost_total',
      help: 'Audit records that could not be kept',
      registers,
    });
    const info = new Gauge({
      name: 'postern_build_info',
      help: 'Always 1; the labels say what runs',
      labelNames: ['version', 'node'],
      aggregator: 'first',
      registers,
    });
    info.set({ version, node: process.version }, 1);
  }

  readonly opened: NonNullable<SessionObserver['opened']> = ({ entry, dialMs }) => {
    this.#opened.inc({ entry });
    this.#active.inc({ entry });
    if (dialMs !== undefined) this.#dialSeconds.observe(dialMs / 1000);
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
    if (isTunnelErrorCode(end)) return this.#refused.inc({ entry, code: end });
    this.#closed.inc({ entry, cause: end ?? 'CLOSED' });
    if (openedAt === undefined) return;
    this.#active.dec({ entry });
    this.#bytes.inc({ direction: 'from_client' }, record.bytesFromClient);
    this.#bytes.inc({ direction: 'from_target' }, record.bytesFromTarget);
    this.#tunnelSeconds.observe((endedAt! - openedAt) / 1000);
  };

  auditFailed(): void {
    this.#auditFailures.inc();
  }

  auditLost(count: number): void {
    this.#auditLost.inc(count);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** For another process of the gateway, which adds them to its own. */
  snapshot(): Promise<Figures> {
    return this.#registry.getMetricsAsJSON();
  }

  /** Counts what leads workers: how many there are, and how often one had to be replaced. */
  leadWorkers(living: () => number): { replaced(): void } {
    const registers = [this.#registry];
    const workers: Gauge = new Gauge({
      name: 'postern_workers',
      help: 'Processes that take tunnels',
      registers,
      collect: (): void => workers.set(living()),
    });
    const replaced = new Counter({
      name: 'postern_workers_replaced_total',
      help: 'Workers that ended by themselves and were replaced',
      registers,
    });
    return { replaced: () => replaced.inc() };
  }
}
