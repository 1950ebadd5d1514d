import { z } from 'zod';
import type { AuditFields } from '../../audit/audit-chain.ts';
import type { AuditFile } from '../../audit/audit-file.ts';
import type { AuditSink } from '../../audit/audit-sink.ts';
import { peerVersion } from '../peer-messages.ts';

/** A worker's records for the audit, one batch at a time. */
export const auditBatch = z.object({
  audit: z.object({ batch: z.number(), records: z.array(z.custom<AuditFields>(isObject)) }),
});

/** The supervisor's answer, when the batch is on the disk, or the reason why it is not in the file. */
export const auditAnswer = z.object({ audited: z.number(), failure: z.string().exactOptional() });

/** The part of a process that has a channel to its supervisor. */
export type SupervisedProcess = Pick<NodeJS.Process, 'connected' | 'on' | 'off' | 'send'>;

interface SentBatch {
  readonly number: number;
  readonly records: readonly AuditFields[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A worker's way to its supervisor, which writes the audit for all workers. Each batch is written once: it is not sent
 * again while the supervisor lives, and when that has died, the worker writes what is not in the file itself.
 */
export class AuditChannel implements AuditSink {
  /** Its supervisor looks after the file. */
  readonly isDisplaced = false;
  readonly #process: SupervisedProcess;
  readonly #file: AuditFile;
  #sent: SentBatch | undefined;
  #batches = 0;
  #ownFile: Promise<AuditFile> | undefined;

  /** `file`: not open; it is opened when the supervisor has died. */
  constructor(file: AuditFile, supervised: SupervisedProcess) {
    this.#file = file;
    this.#process = supervised;
    supervised.on('message', this.#onMessage);
    supervised.on('disconnect', this.#onDisconnect);
  }

  async open(): Promise<void> {}

  async append(records: readonly AuditFields[]): Promise<void> {
    if (!this.#process.connected || this.#ownFile) return (await this.#openFile()).append(records);
    if (records.length === 0) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const number = ++this.#batches;
    this.#sent = { number, records, resolve, reject };
    // An error means that the channel is closed, which is told apart.
    this.#process.send!(
      { v: peerVersion, audit: { batch: number, records } },
      undefined,
      undefined,
      () => {},
    );
    return promise;
  }

  reopen(): void {
    if (this.#ownFile) this.#file.reopen();
  }

  async close(): Promise<void> {
    this.#process.off('message', this.#onMessage);
    this.#process.off('disconnect', this.#onDisconnect);
    await this.#file.close();
  }

  readonly #onMessage = (message: unknown): void => {
    const sent = this.#sent;
    const { data } = auditAnswer.safeParse(message);
    if (data === undefined || sent?.number !== data.audited) return;
    this.#sent = undefined;
    if (data.failure === undefined) sent.resolve();
    else sent.reject(new Error(data.failure));
  };

  readonly #onDisconnect = (): void => {
    const sent = this.#sent;
    this.#sent = undefined;
    // The supervisor can have written them and died before it said so.
    if (sent)
      void this.#openFile()
        .then((file) => file.appendMissing(sent.records))
        .then(sent.resolve, sent.reject);
  };

  #openFile(): Promise<AuditFile> {
    this.#ownFile ??= this.#file.open().then(() => this.#file);
    // The next write tries again.
    this.#ownFile.catch(() => (this.#ownFile = undefined));
    return this.#ownFile;
  }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}
