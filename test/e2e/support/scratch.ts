import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import type { TestContext } from 'node:test';

/** One test file's own directory and everything it has started, ended in reverse order after its last test. */
export class Scratch {
  readonly directory = mkdtempSync(join(tmpdir(), 'postern-e2e-'));
  /** The network namespace in which programs are started; absent: that of the tests. */
  namespace: string | undefined;
  readonly #endings: (() => Promise<void> | void)[] = [];

  constructor() {
    // Programs that give up root still have to reach their files in it.
    chmodSync(this.directory, 0o711);
    // For a test file that is ended before its last test.
    process.once('exit', () => this.#remove());
  }

  path(...parts: string[]): string {
    return join(this.directory, ...parts);
  }

  /** Has `ending` called at the end of the test file, also when a test has failed. */
  onEnd(ending: () => Promise<void> | void): void {
    this.#endings.push(ending);
  }

  async end(): Promise<void> {
    for (const ending of this.#endings.splice(0).toReversed()) await ending();
    this.#remove();
  }

  #remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A scratch that ends with a test. */
export function scratchOf(test: TestContext): Scratch {
  const scratch = new Scratch();
  test.after(() => scratch.end());
  return scratch;
}

/** The scratch of this test file; call it at the top level. */
export function openScratch(): Scratch {
  const scratch = new Scratch();
  after(() => scratch.end());
  return scratch;
}
