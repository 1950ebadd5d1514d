import { fstatSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { isatty } from 'node:tty';

/** Whether an error of an output only means that nothing reads it any more, as after `| head -1`. */
export function hasReaderLeft(error: Error): boolean {
  const { code } = error as NodeJS.ErrnoException;
  // Windows reports the other end of a pipe that was closed as EOF.
  return code === 'EPIPE' || code === 'ECONNRESET' || code === 'EOF';
}

/**
 * The standard output of this process: `process.stdout`, but for files. There Node.js takes a write of which only a part
 * fitted on a full disk for a success.
 */
export function standardOutput(): Writable {
  return isFile(1) ? new FileOutput(1) : process.stdout;
}

/** Neither a pipe or socket nor a terminal: a regular file, or a device such as /dev/full. */
function isFile(descriptor: number): boolean {
  try {
    const stats = fstatSync(descriptor);
    return !stats.isFIFO() && !stats.isSocket() && !isatty(descriptor);
  } catch {
    return false;
  }
}

/** Writes each chunk as a whole, synchronously as Node.js does, or fails. Never closes the file. */
class FileOutput extends Writable {
  readonly #descriptor: number;

  constructor(descriptor: number) {
    super({ decodeStrings: true });
    this.#descriptor = descriptor;
  }

  override _write(chunk: Buffer, _encoding: string, callback: (error?: Error | null) => void): void {
    try {
      for (let rest = chunk; rest.length > 0;) rest = rest.subarray(writeSync(this.#descriptor, rest));
      callback();
    } catch (error) {
      callback(error as Error);
    }
  }
}

/**
 * Notes the first error of an output, so that none ends the process as an uncaught exception: call it before anything is
 * written. A reader that has left is no error: what is written then is dropped.
 */
export class WatchedOutput {
  readonly stream: Writable;
  #error: Error | undefined;

  /** `onError` is called at once, for a command that goes on. */
  constructor(stream: Writable, onError: (error: Error) => void = () => {}) {
    this.stream = stream;
    stream.on('error', (error) => {
      if (this.#error !== undefined || hasReaderLeft(error)) return;
      this.#error = error;
      onError(error);
    });
  }

  /** Resolves, once everything is written or cannot be, to what made it fail. Waits for a reader that is slow. */
  async flushed(): Promise<Error | undefined> {
    const { stream } = this;
    if (!stream.destroyed && !stream.writableEnded)
      await new Promise<void>((resolve) => stream.write('', () => resolve()));
    // A stream that has failed says so after it is destroyed.
    await new Promise((resolve) => setImmediate(resolve));
    return this.#error;
  }
}
