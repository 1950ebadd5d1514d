import { Registry } from '@prometheus-io/client';
import type { Figures } from './metrics.ts';

/** What a process of the gateway has counted. */
export interface ProcessMetrics {
  /** Names the process among all that there ever are. */
  readonly instance: string;
  /** What its own figures are labelled with; absent: only what it counts for the gateway is shown. */
  readonly worker?: string | undefined;
  readonly figures: Figures;
}

const ours = 'postern_';

/**
 * The figures of the gateway from those of its processes: counts and sums are added up, and what is about a process is
 * shown for each. What a process has counted stays when it is gone: a counter must not fall.
 */
export class MetricsAggregator {
  readonly #last = new Map<string, ProcessMetrics>();
  #gone: Figures | undefined;

  /** The last words of a process. */
  keep(said: ProcessMetrics): void {
    this.#last.set(said.instance, said);
  }

  /**
   * All of them in the text format: `answers` are those of the living who have answered, `living` all who could have.
   * What is about our own process has no label when it has none.
   */
  async text(
    own: ProcessMetrics,
    answers: readonly ProcessMetrics[],
    living: ReadonlySet<string>,
  ): Promise<string> {
    for (const answer of answers) this.#last.set(answer.instance, answer);
    await this.#retireDead(living);
    return merge([
      own.figures.map((each) => (isOurs(each) ? each : withLabels(each, labelsOf(own)))),
      ...[...this.#last.values()].map(labelled),
      ...(this.#gone ? [this.#gone] : []),
    ]).metrics();
  }

  async #retireDead(living: ReadonlySet<string>): Promise<void> {
    const dead = [...this.#last.values()].filter(({ instance }) => !living.has(instance));
    if (dead.length === 0) return;
    for (const { instance } of dead) this.#last.delete(instance);
    const counted = dead.map(({ figures }) => figures.filter((each) => isOurs(each) && isCount(each.type)));
    this.#gone = await merge([...(this.#gone ? [this.#gone] : []), ...counted]).getMetricsAsJSON();
  }
}

/** Of another process without a label only what all processes add up to. */
function labelled(process: ProcessMetrics): Figures {
  return process.figures.flatMap((each) => {
    if (isOurs(each)) return [each];
    return process.worker === undefined ? [] : [withLabels(each, labelsOf(process))];
  });
}

function labelsOf({ worker }: ProcessMetrics): Readonly<Record<string, string>> {
  return worker === undefined ? {} : { worker };
}

/** For a figure of one process: nothing is added up. */
function withLabels(each: Figures[number], labels: Readonly<Record<string, string>>): Figures[number] {
  const values = each.values.map((value) => ({ ...value, labels: { ...value.labels, ...labels } }));
  return { ...each, values, aggregator: 'first' };
}

function isOurs({ name }: Figures[number]): boolean {
  return name.startsWith(ours);
}

function merge(all: readonly Figures[]): Registry {
  return Registry.aggregate([...all]);
}

/** As processes of any version write it. */
function isCount(type: unknown): boolean {
  return type === 'counter' || type === 'histogram';
}
