import { lookup } from 'node:dns';
import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';

type Answer = (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void;

/** What names stood for the last time: a session that comes back should not have to wait for DNS. */
const known = new Map<string, LookupAddress[]>();
const running = new Map<string, Answer[]>();

/** How long DNS may take when the answer of the last time is there. */
const freshMs = 500;

/**
 * Looks a name up as Node does; where that fails or takes long, what the name stood for the last time is good enough.
 * While the network is down the resolver blocks one of few threads for each question, so there is never more than one
 * question for a name.
 */
export const lookupAgain: LookupFunction = (name, options, callback) => {
  const before = known.get(name);
  let isAnswered = false;
  const answer: Answer = (error, addresses) => {
    if (isAnswered) return;
    isAnswered = true;
    clearTimeout(timer);
    if (error !== null || options.all) callback(error, addresses);
    else callback(null, addresses[0]!.address, addresses[0]!.family);
  };
  const timer = before && setTimeout(() => answer(null, before), freshMs);
  ask(name, (error, addresses) => {
    if (error !== null && before) answer(null, before);
    else answer(error, addresses);
  });
};

function ask(name: string, answer: Answer): void {
  const waiting = running.get(name);
  if (waiting !== undefined) return void waiting.push(answer);
  const all = [answer];
  running.set(name, all);
  lookup(name, { all: true }, (error, addresses) => {
    running.delete(name);
    if (error === null) known.set(name, addresses);
    for (const each of all) each(error, addresses);
  });
}
