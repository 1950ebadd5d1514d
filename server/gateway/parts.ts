import { AuditFile } from '../audit/audit-file.ts';
import { AuditLog } from '../audit/audit-log.ts';
import type { AuditSink } from '../audit/audit-sink.ts';
import { changeMessages } from '../audit/file-change.ts';
import type { SigningKey } from '../auth/gateway-key.ts';
import { openRememberedKey } from '../auth/remembered-key.ts';
import type { Config } from '../config/config.ts';
import { newInstanceName } from '../cluster/runtime-directory.ts';
import { InstanceHistory } from '../resume/instance-history.ts';
import type { TunnelLocator } from '../resume/tunnel-locator.ts';
import type { Log } from '../telemetry/log.ts';
import { Metrics } from '../telemetry/metrics.ts';
import type { ClusterContext } from './cluster-context.ts';
import { buildSettings } from './settings.ts';
import type { GatewaySettings } from './settings.ts';
import { closeState, openState } from './state.ts';
import type { GatewayState } from './state.ts';

/** The parts of a gateway that are opened before it can be put together. */
export interface GatewayParts {
  readonly settings: GatewaySettings;
  readonly state: GatewayState;
  readonly log: Log;
  readonly audit: AuditLog;
  readonly metrics: Metrics;
  /** Names this process in the ids of its tunnels. */
  readonly instance: string;
  /** The tunnels of the other processes. */
  readonly others: TunnelLocator;
}

/** Opens the parts. Rejects when the audit file, the store or the key cannot be used; nothing is left open then. */
export async function openParts(
  config: Config,
  log: Log,
  cluster: Partial<ClusterContext> = {},
): Promise<GatewayParts> {
  const { instance = newInstanceName(), peers } = cluster;
  const metrics = new Metrics();
  const state = await openState(config, log);
  let audit: AuditLog | undefined;
  try {
    audit = openAudit(config, { log, metrics, cluster });
    await audit.start();
    const openKey = (): Promise<SigningKey> =>
      openRememberedKey({ keyFile: config.keyFile, storeFile: config.store.file }, state.store);
    const settings = await buildSettings(config, state, openKey);
    const history = new InstanceHistory(state.store, config.control.path);
    await (peers ? peers.rememberIn(history) : history.remember([instance]));
    return { settings, state, log, audit, metrics, instance, others: peers ?? history.locator };
  } catch (error) {
    await closeParts({ state, audit });
    throw error;
  }
}

export async function closeParts({
  state,
  audit,
}: Pick<GatewayParts, 'state'> & { readonly audit: AuditLog | undefined }): Promise<void> {
  await closeState(state);
  await audit?.close();
}

interface AuditParts {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly cluster: Partial<ClusterContext>;
}

/** The audit log, not started yet. */
function openAudit(config: Config, { log, metrics, cluster }: AuditParts): AuditLog {
  const file = auditFile(config, { log, metrics });
  const sink: AuditSink = cluster.auditSink?.(file) ?? file;
  return new AuditLog(sink, {
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

/** Every process of the gateway has the same store, by which they know each other. */
function auditFile(config: Config, { log, metrics }: Omit<AuditParts, 'cluster'>): AuditFile {
  return new AuditFile(config.audit.file, {
    store: config.store.file,
    onChange({ how, path }) {
      metrics.auditChanged(how);
      log[how === 'tightened' ? 'warn' : 'error']({ path, how }, changeMessages[how]);
    },
  });
}
