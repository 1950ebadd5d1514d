import type { AuditFields } from './audit-chain.ts';

/** The place where the audit of this process is written: the file, or the process that writes it for this one. */
export interface AuditSink {
  /** Rejects when it cannot be used. */
  open(): Promise<void>;
  /** Resolves when the records are on the disk. One call at a time; without records it looks after the file only. */
  append(records: readonly AuditFields[]): Promise<void>;
  /** Whether something was done to the file, so that it has to be looked after before the next record. */
  readonly isDisplaced: boolean;
  /** Continues in a file of the same name: rotation has moved the old one away. */
  reopen(): void;
  close(): Promise<void>;
}
