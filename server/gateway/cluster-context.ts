import type { AuditFile } from '../audit/audit-file.ts';
import type { AuditSink } from '../audit/audit-sink.ts';
import type { Peers } from '../cluster/peers.ts';
import type { Counter } from '../policy/counter.ts';

/** The context of a process that is one of several of the same gateway. */
export interface ClusterContext {
  /** Names this process in the ids of its tunnels. */
  readonly instance: string;
  readonly peers: Peers;
  /** Counts for all of them together; absent: this process counts for itself. */
  readonly counter?: Counter;
  /** Another process records what concerns the gateway as a whole. */
  readonly isWorker?: boolean;
  /** Another process writes the audit for this one, which writes the file itself when that one is gone. */
  readonly auditSink?: (file: AuditFile) => AuditSink;
}
