import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { AuditFields } from '../audit/audit-chain.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import { endsOfLostTunnels } from '../audit/lost-tunnels.ts';
import type { RuntimeDirectory } from '../cluster/runtime-directory.ts';
import type { Config } from '../config/config.ts';
import { version } from '../runtime/version.ts';
import { FileLock } from '../store/file-lock.ts';
import type { Log } from '../telemetry/log.ts';

export interface StartedProcess {
  readonly audit: AuditLog;
  readonly config: Pick<Config, 'audit' | 'limits' | 'workers'>;
  /** The text of the config file. */
  readonly configText: string;
  readonly instance: string;
  readonly directory: RuntimeDirectory;
  readonly log: Log;
  /** What ended the process, when it ends. */
  readonly cause: () => string;
}

/** Of several processes that start at once, one looks after the other. */
const lockMs = 30_000;
/** A disk that does not answer does not keep the gateway from starting. */
const writeMs = 10_000;
const dayMs = 24 * 3_600_000;

/**
 * Records that this process starts, and later that it stops; before that, the ends of tunnels whose process has ended
 * without a word. Does not reject.
 */
export async function recordStart(started: StartedProcess): Promise<void> {
  const { audit, config, configText, instance, directory, log, cause } = started;
  audit.beforeClose(() => audit.appendEventually(lifeFields('stop', { instance, cause: cause() })));
  const lock = new FileLock(join(directory.directory, 'start.lock'));
  try {
    const release = await lock.acquire(lockMs).catch(() => () => {});
    const others = (await directory.others(instance)).map((socket) => directory.nameOf(socket));
    const isComplete = await recordLostTunnels(started, new Set(others)).catch((err: unknown) => {
      log.warn({ err }, 'the ends of lost tunnels cannot be recorded');
      return false;
    });
    const { workers } = config;
    const hash = createHash('sha256').update(configText).digest('base64url');
    // The search for lost tunnels stops at a start without others.
    const start = { instance, version, workers, config: hash, ...(isComplete && { others }) };
    audit.appendEventually(lifeFields('start', start));
    await Promise.race([audit.idle(), delay(writeMs, undefined, { ref: false })]);
    release();
  } finally {
    lock.close();
  }
}

/** Records that a gateway starts which is part of another server, and later that it stops. */
export function recordEmbeddedStart(audit: AuditLog): void {
  audit.beforeClose(() => audit.appendEventually(lifeFields('stop', {})));
  audit.appendEventually(lifeFields('start', { version }));
}

/** Resolves to whether all of them are recorded. */
async function recordLostTunnels(
  { audit, config, log }: StartedProcess,
  living: ReadonlySet<string>,
): Promise<boolean> {
  const since = Date.now() - config.limits.sessionMs - dayMs;
  const ends = await endsOfLostTunnels(config.audit.file, { living, since });
  if (ends.length === 0) return true;
  log.warn({ tunnels: ends.length }, 'tunnels were lost with a process that ended without a word');
  return Promise.race([audit.appendAll(ends).then(() => true), delay(writeMs, false, { ref: false })]);
}

function lifeFields(event: 'start' | 'stop', more: AuditFields): AuditFields {
  return { time: new Date().toISOString(), event, pid: process.pid, ...more };
}
