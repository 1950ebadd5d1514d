import { Registry } from '@prometheus-io/client';
import type { MetricsSnapshot } from './metrics.ts';

/** The metrics of one process of the gateway. */
export interface ProcessMetrics {
  /** Its instance name, which no other process ever has. */
  readonly instance: string;
  /** The label of what is about the process itself; absent: only what it counts for the gateway is shown. */
  readonly worker?: string | undefined;
  readonly figures: MetricsSnapshot;
}

const ownPrefix = 'postern_';

/**
 * The metrics of the gateway from those of its processes: counts and sums are added up, and what is about a process is
 * shown for each. What a process has counted stays when it has ended: a counter must not fall.
 */
export class MetricsAggregator {
  readonly #latest = new Map<string, ProcessMetrics>();
  #ended: MetricsSnapshot | undefined;

  /** Keeps what a process has reported before its end. */
  keep(metrics: ProcessMetrics): void {
    this.#latest.set(metrics.instance, metrics);
  }

  /**
   * All of them in the text format: `answers` are those of the living processes that have answered, `living` the names
   * of all that could have. Metrics about our own process have no label when it has none.
   */
  async text(
    own: ProcessMetrics,
    answers: readonly ProcessMetrics[],
    living: ReadonlySet<string>,
  ): Promise<string> {
    for (const answer of answers) this.#latest.set(answer.instance, answer);
    await this.#retireDead(living);
    return merge([
      own.figures.map((each) => (isOfGateway(each) ? each : withLabels(each, labelsOf(own)))),
      ...[...this.#latest.values()].map(labelled),
      ...(this.#ended ? [this.#ended] : []),
    ]).metrics();
  }

  async #retireDead(living: ReadonlySet<string>): Promise<void> {
    const dead = [...this.#latest.values()].filter(({ instance }) => !living.has(instance));
    if (dead.length === 0) return;
    for (const { instance } of dead) this.#latest.delete(instance);
    const counted = dead.map(({ figures }) =>
      withLostTunnels(figures).filter((each) => isOfGateway(each) && isCount(each.type)),
    );
    this.#ended = await merge([...(this.#ended ? [this.#ended] : []), ...counted]).getMetricsAsJSON();
  }
}

/** The tunnels that a process had open when it died are over too, so that those opened less those closed are the open ones. */
function withLostTunnels(figures: MetricsSnapshot): MetricsSnapshot {
  const active = figures.find(({ name }) => name === 'postern_tunnels_active');
  const lost = (active?.values ?? []).flatMap(({ labels, value }) =>
    value > 0 ? [{ labels: { ...labels, cause: 'PROCESS_LOST' }, value }] : [],
  );
  return figures.map((each) =>
    each.name === 'postern_tunnels_closed_total' ? { ...each, values: [...each.values, ...lost] } : each,
  );
}

/** Of another process without a label only what all processes add up to. */
function labelled(process: ProcessMetrics): MetricsSnapshot {
  return process.figures.flatMap((each) => {
    if (isOfGateway(each)) return [each];
    return process.worker === undefined ? [] : [withLabels(each, labelsOf(process))];
  });
}

function labelsOf({ worker }: ProcessMetrics): Readonly<Record<string, string>> {
  return worker === undefined ? {} : { worker };
}

/** For a metric of one process: nothing is added up. */
function withLabels(
  each: MetricsSnapshot[number],
  labels: Readonly<Record<string, string>>,
): MetricsSnapshot[number] {
  const values = each.values.map((value) => ({ ...value, labels: { ...value.labels, ...labels } }));
  return { ...each, values, aggregator: 'first' };
}

/** Whether the gateway counts it, and not the runtime of a process. */
function isOfGateway({ name }: MetricsSnapshot[number]): boolean {
  return name.startsWith(ownPrefix);
}

function merge(all: readonly MetricsSnapshot[]): Registry {
  return Registry.aggregate([...all]);
}

/** As processes of any version write it. */
function isCount(type: unknown): boolean {
  return type === 'counter' || type === 'histogram';
}
