import { isThere } from '../os/process-identity.ts';
import { streamEnds } from '../os/stream-ends.ts';

/** Two checks are less than the two seconds in which a client whose caller is gone has to end. */
const checkMs = 800;

/** What is done once the caller is gone, and what is known of the input besides. */
export interface CallerHandler {
  /** Whether it is worth a look: the input has ended, or is not being read. */
  readonly isDue: () => boolean;
  /** Whether the end of the input has been read. */
  readonly hasInputEnded: () => boolean;
  readonly onLeft: () => void;
}

/**
 * Watches for the end of the process that started this one, usually ssh: its input is at its end and nothing reads its output.
 * Without the watch, a caller that is killed would be noticed with the next bytes that come for it, which can be never while
 * the network is cut. Where the system does not tell, the end of the parent process has to do.
 */
export class CallerWatch {
  readonly #ends = streamEnds();
  readonly #parent = process.ppid;
  readonly #timer: NodeJS.Timeout;
  #handler: CallerHandler;

  /** Until `handle` is called, the end of the caller ends this process as a signal does. */
  constructor() {
    this.#handler = {
      isDue: () => true,
      hasInputEnded: () => false,
      // What must not be interrupted, such as the use of a refresh token, holds signals back.
      onLeft: () => process.kill(process.pid, 'SIGTERM'),
    };
    this.#timer = setInterval(() => this.check(), checkMs);
    this.#timer.unref();
  }

  /** Passes the end of the caller to `handler` from now on. */
  handle(handler: CallerHandler): void {
    this.#handler = handler;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Looks now, and not only when it is time. */
  check(): void {
    if (!this.#handler.isDue() || !this.#hasLeft()) return;
    this.stop();
    this.#handler.onLeft();
  }

  #hasLeft(): boolean {
    const hasReaderLeft = this.#ends.hasReaderLeft() ?? !isThere(this.#parent);
    if (!hasReaderLeft) return false;
    return this.#handler.hasInputEnded() || (this.#ends.hasWriterLeft() ?? !isThere(this.#parent));
  }
}
