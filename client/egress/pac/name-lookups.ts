// PAC files look up names by synchronous functions, and Node.js has no synchronous lookup. The thread that runs the PAC
// file asks its parent by a message and blocks; the parent looks the name up, answers by a message and wakes the thread.
import { lookup } from 'node:dns';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';

/** PAC files look up names that only the company's own DNS has; elsewhere that must not use up all the time. */
const lookupMs = 1500;
/** The limit of all lookups of a PAC file together. */
const allLookupsMs = 3500;
/** A PAC file that asks for more names gets no addresses; in Chromium the limit is 20. */
const maxNames = 64;

/** A question for the addresses of a name: those of IPv4 only, or all. */
export interface Lookup {
  readonly host: string;
  readonly family: 4 | 0;
}

interface LookedUp extends Lookup {
  readonly addresses: readonly string[];
}

/** The asking end; transfer `port` to the thread. */
export interface LookupChannel {
  readonly port: MessagePort;
  /** One counter of answers, on which the thread waits. */
  readonly answers: Int32Array<SharedArrayBuffer>;
}

/** Starts answering lookups. The caller transfers `channel.port` to the thread and calls `close` when it has ended. */
export function answerLookups(): { readonly channel: LookupChannel; close(): void } {
  const { port1, port2 } = new MessageChannel();
  const answers = new Int32Array(new SharedArrayBuffer(4));
  const known = new Map<string, Promise<readonly string[]>>();
  const startedAt = performance.now();
  const addressesOf = ({ host, family }: Lookup): Promise<readonly string[]> => {
    const key = `${family} ${host}`;
    let pending = known.get(key);
    if (pending === undefined) {
      const leftMs = Math.min(lookupMs, startedAt + allLookupsMs - performance.now());
      pending = known.size < maxNames && leftMs > 0 ? lookUp({ host, family }, leftMs) : Promise.resolve([]);
      known.set(key, pending);
    }
    return pending;
  };
  const reply = async (question: Lookup): Promise<void> => {
    const addresses = await addressesOf(question);
    port1.postMessage({ ...question, addresses } satisfies LookedUp);
    Atomics.add(answers, 0, 1);
    Atomics.notify(answers, 0);
  };
  port1.on('message', (question: Lookup) => void reply(question));
  return { channel: { port: port2, answers }, close: () => port1.close() };
}

/** Blocks this thread until its parent has the addresses of a name; there are none where the name has none in time. */
export function waitForAddresses(
  { port, answers }: LookupChannel,
  { host, family }: Lookup,
): readonly string[] {
  const until = performance.now() + 2 * lookupMs;
  let count = Atomics.load(answers, 0);
  port.postMessage({ host, family } satisfies Lookup);
  for (;;) {
    const leftMs = until - performance.now();
    if (leftMs <= 0) return [];
    Atomics.wait(answers, 0, count, leftMs);
    count = Atomics.load(answers, 0);
    // The answer to an earlier question can have come too late for it.
    for (let next = receive(port); next !== undefined; next = receive(port))
      if (next.host === host && next.family === family) return next.addresses;
  }
}

function receive(port: MessagePort): LookedUp | undefined {
  return receiveMessageOnPort(port)?.message as LookedUp | undefined;
}

/** In the order of the system. */
function lookUp({ host, family }: Lookup, limitMs: number): Promise<readonly string[]> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve([]), limitMs);
    lookup(host, { all: true, family }, (error, found) => {
      clearTimeout(timer);
      resolve(error === null ? found.map(({ address }) => address) : []);
    });
  });
}
