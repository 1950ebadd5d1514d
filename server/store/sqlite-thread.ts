import { parentPort, workerData } from 'node:worker_threads';
import { SqliteRows, isBusy } from './sqlite-rows.ts';
import type { ThreadCall, ThreadData, ThreadMessage, ThreadRequest } from './thread-messages.ts';

/** The longest time between a write of another process and the news of it. */
const pollMs = 250;
/** A lock of another process is tried for again this often, for so long. */
const retryMs = 10;
const retryLimitMs = 5000;
/** A lock that is held for longer is reported without a request. */
const lockedMs = 2000;

/**
 * The thread that has the file of a store open. It is the only one that waits for the disk and for the locks of other
 * processes: reads are answered in between, writes one after the other.
 */
class SqliteThread {
  readonly #rows: SqliteRows;
  readonly #send: (message: ThreadMessage) => void;
  readonly #polling: NodeJS.Timeout;
  readonly #writes: { readonly request: ThreadRequest; readonly deadline: number }[] = [];
  #isWriting = false;
  #lockedSince: number | undefined;
  #polls = 0;

  constructor(rows: SqliteRows, send: (message: ThreadMessage) => void) {
    this.#rows = rows;
    this.#send = send;
    this.#polling = setInterval(() => this.#poll(), pollMs);
  }

  async receive(request: ThreadRequest): Promise<void> {
    if (request.kind === 'read' || request.kind === 'list') {
      await this.#answer(request);
      return;
    }
    this.#writes.push({ request, deadline: performance.now() + retryLimitMs });
    if (!this.#isWriting) await this.#write();
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    for (let next = this.#writes[0]; next; next = this.#writes[0]) {
      const isOver = await this.#answer(next.request, next.deadline);
      if (isOver) this.#writes.shift();
      // Reads that have come meanwhile are answered first.
      await new Promise((resolve) => (isOver ? setImmediate(resolve) : setTimeout(resolve, retryMs)));
    }
    this.#isWriting = false;
  }

  /** Answers, unless another process holds the lock before the deadline. Resolves to whether it has. */
  async #answer(request: ThreadRequest, deadline = -Infinity): Promise<boolean> {
    const { id } = request;
    try {
      this.#send({ kind: 'done', id, result: await this.#call(request) });
    } catch (error) {
      if (isBusy(error) && performance.now() < deadline) return false;
      this.#send({ kind: 'failed', id, message: (error as Error).message });
    }
    return true;
  }

  async #call(call: ThreadCall): Promise<unknown> {
    const rows = this.#rows;
    if (call.kind === 'read') return rows.read(call.table, call.key);
    if (call.kind === 'list') return rows.list(call.table);
    if (call.kind === 'replace') return rows.replace(call.table, call.key, call.expected, call.next);
    if (call.kind === 'seen') return rows.seen().add(call.key, call.expiresAt);
    if (call.kind === 'openSeen') rows.seen();
    else rows[call.kind]();
    if (call.kind === 'close') clearInterval(this.#polling);
    return undefined;
  }

  #poll(): void {
    try {
      const names = this.#rows.poll();
      if (!names) this.#send({ kind: 'changed' });
      else if (names.length > 0) this.#send({ kind: 'changed', names });
      if (++this.#polls % 4 === 0) this.#lookForFault();
    } catch (error) {
      // Polled again in a moment.
      if (!isBusy(error)) this.#send({ kind: 'failing', reason: (error as Error).message });
    }
  }

  #lookForFault(): void {
    this.#rows.checkPresent();
    if (!this.#rows.isLocked()) this.#lockedSince = undefined;
    else if (performance.now() - (this.#lockedSince ??= performance.now()) >= lockedMs)
      this.#send({ kind: 'failing', reason: 'another process has locked the store' });
  }
}

const port = parentPort!;
const send = (message: ThreadMessage): void => port.postMessage(message);
const { file, now: startedAt } = workerData as ThreadData;
let clock = startedAt;
try {
  const rows = new SqliteRows(file, {
    now: () => clock ?? Date.now(),
    onNotice: (text) => send({ kind: 'notice', text }),
  });
  const thread = new SqliteThread(rows, send);
  port.on('message', (request: ThreadRequest) => {
    if (clock !== undefined) clock = request.now;
    void thread.receive(request);
  });
  send({ kind: 'open' });
} catch (error) {
  send({ kind: 'notOpen', message: (error as Error).message });
}
