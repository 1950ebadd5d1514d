import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FileLock, Presence } from '../store/file-lock.ts';
import type { AuditHead } from './audit-head.ts';

export interface AuditLockOptions {
  /** The file of the gateway's store, by which its processes know each other. */
  readonly store: string;
  readonly head: AuditHead;
  /** Called with a file that other users could open until now. */
  readonly onTightened: (file: string) => void;
}

/** A process that is about to begin holds the file for a moment. */
const announceMs = 2000;

/**
 * Lets one process of a gateway write the audit at a time, and one gateway. The lock is beside the audit, and it is made
 * anew when its file is removed. It is held for one write that does not wait for the disk.
 */
export class AuditLock {
  readonly #path: string;
  readonly #options: AuditLockOptions;
  /** Processes of earlier versions lock this one, which exists where they have run. */
  readonly #earlier: FileLock | undefined;
  #lock: FileLock;
  #presence: Presence;
  #ino: number;

  private constructor(path: string, options: AuditLockOptions) {
    this.#path = path;
    this.#options = options;
    this.#lock = this.#openLock(path);
    this.#presence = new Presence(path);
    this.#ino = inodeOf(path);
    const earlier = `${options.store}-audit`;
    this.#earlier = existsSync(earlier) ? this.#openLock(earlier) : undefined;
  }

  /** Rejects when a running gateway with another store writes this audit, and with what the file system says. */
  static async open(auditFile: string, options: AuditLockOptions): Promise<AuditLock> {
    const path = join(dirname(auditFile), `.${basename(auditFile)}.lock`);
    const lock = new AuditLock(path, options);
    try {
      await lock.#announce(auditFile);
      return lock;
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /** The function that releases the lock; undefined when another process holds it. Throws what the file system throws. */
  tryAcquire(): (() => void) | undefined {
    if (!this.#isCurrent) this.#reopen();
    const release = this.#lock.tryAcquire();
    if (!release) return undefined;
    const releaseEarlier = this.#earlier?.tryAcquire();
    // Both or none: nothing is held while this process waits.
    if (this.#isCurrent && (releaseEarlier || !this.#earlier)) {
      return () => {
        releaseEarlier?.();
        release();
      };
    }
    releaseEarlier?.();
    release();
    return undefined;
  }

  close(): void {
    this.#presence.close();
    this.#lock.close();
    this.#earlier?.close();
  }

  get #isCurrent(): boolean {
    return inodeOf(this.#path) === this.#ino;
  }

  #reopen(): void {
    this.#presence.close();
    this.#lock.close();
    this.#lock = this.#openLock(this.#path);
    this.#presence = new Presence(this.#path);
    this.#presence.announce();
    this.#ino = inodeOf(this.#path);
  }

  #openLock(path: string): FileLock {
    const lock = new FileLock(path);
    if (lock.wasOpenToOthers) this.#options.onTightened(path);
    return lock;
  }

  async #announce(auditFile: string): Promise<void> {
    const { head, store } = this.#options;
    const deadline = performance.now() + announceMs;
    // Another gateway can begin in the same moment: the file says in the end whose it is.
    this.#presence.ifAlone(() => head.claim(store));
    while (!this.#presence.announce()) {
      if (performance.now() > deadline) throw new Error(`${this.#path}: another process holds the lock`);
      await delay(5);
    }
    const owner = head.read()?.store;
    if (owner !== store)
      throw new Error(
        `the audit ${auditFile} belongs to the running gateway with the store ${owner}; each gateway needs an audit of its own`,
      );
  }
}

function inodeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ino ?? -1;
}
