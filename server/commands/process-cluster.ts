import type { Peers } from '../cluster/peers.ts';
import type { RuntimeDirectory } from '../cluster/runtime-directory.ts';
import type { Supervisor } from '../cluster/supervisor.ts';
import type { MetricsAggregator } from '../telemetry/metrics-aggregator.ts';

/** This process among those of its gateway. */
export interface ProcessCluster {
  /** Its name among them. */
  readonly instance: string;
  readonly directory: RuntimeDirectory;
  readonly peers: Peers;
  /** Absent where this process carries the tunnels itself. */
  readonly supervisor: Supervisor | undefined;
  /** Collects the metrics of all of them. */
  readonly metrics: MetricsAggregator;
}
