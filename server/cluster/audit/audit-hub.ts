import type { ChildProcess } from 'node:child_process';
import type { AuditFields } from '../../audit/audit-chain.ts';
import { endOfLost } from '../../audit/lost-tunnels.ts';
import { auditBatch } from './audit-channel.ts';

/** What the supervisor writes the records of its workers to. */
export interface AuditWriter {
  appendAll(records: readonly AuditFields[]): Promise<void>;
  appendEventually(fields: AuditFields): void;
}

/**
 * The supervisor's side: writes what its workers send, and when one of them has died without having ended its tunnels,
 * their ends.
 */
export class AuditHub {
  readonly #writer: AuditWriter;
  readonly #served = new Set<Promise<void>>();

  constructor(writer: AuditWriter) {
    this.#writer = writer;
  }

  /** Serves a child from its start to its end. */
  serve(child: ChildProcess): void {
    const open = new Map<unknown, AuditFields>();
    let last = Promise.resolve();
    child.on('message', (message) => {
      const { data } = auditBatch.safeParse(message);
      if (data) last = this.#write(data.audit, open, child);
    });
    const served = new Promise<void>((resolve) => {
      const end = async (): Promise<void> => {
        // All that it has sent has arrived by now.
        await last;
        for (const record of open.values()) this.#writer.appendEventually(endOfLost(record));
        resolve();
        this.#served.delete(served);
      };
      child.once('disconnect', () => void end());
      // There is no process then.
      child.once('error', () => child.pid === undefined && void end());
    });
    this.#served.add(served);
  }

  /** Resolves when all that workers have sent is written, as far as that is possible; they must have ended. */
  async end(): Promise<void> {
    await Promise.all(this.#served);
  }

  async #write(
    { batch, records }: { readonly batch: number; readonly records: readonly AuditFields[] },
    open: Map<unknown, AuditFields>,
    child: ChildProcess,
  ): Promise<void> {
    const failure = await this.#writer.appendAll(records).then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (failure === undefined) {
      for (const record of records) {
        if (record['event'] === 'open') open.set(record['session'], record);
        else if (record['event'] === 'end' || record['event'] === 'refuse') open.delete(record['session']);
      }
    }
    if (child.connected) child.send({ audited: batch, ...(failure !== undefined && { failure }) }, () => {});
  }
}
