import { lookup } from 'node:dns';
import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';

type Answer = (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void;

/** The last addresses of names: resuming a session should not have to wait for DNS. */
const known = new Map<string, LookupAddress[]>();
const running = new Map<string, Answer[]>();

/** How long DNS can take when the last addresses are known. */
const freshMs = 500;

/**
 * Resolves a name as Node.js does; where that fails or takes long, the last addresses are used. While the network is
 * down the resolver blocks one of few threads for each lookup, so there is never more than one lookup of a name.
 */
export const cachedLookup: LookupFunction = (name, options, callback) =>
  find({ name, key: name }, options, callback);

/** `cachedLookup` with a cache for each `network`: a proxy's name can mean another machine in another network. */
export const networkLookup =
  (network: () => string): LookupFunction =>
  (name, options, callback) =>
    find({ name, key: `${name} in ${network()}` }, options, callback);

interface LookupRequest {
  readonly name: string;
  /** The key of the cache. */
  readonly key: string;
}

function find(
  request: LookupRequest,
  options: Parameters<LookupFunction>[1],
  callback: Parameters<LookupFunction>[2],
): void {
  const before = known.get(request.key);
  let isAnswered = false;
  const answer: Answer = (error, addresses) => {
    if (isAnswered) return;
    isAnswered = true;
    clearTimeout(timer);
    if (error !== null || options.all) callback(error, addresses);
    else callback(null, addresses[0]!.address, addresses[0]!.family);
  };
  const timer = before && setTimeout(() => answer(null, before), freshMs);
  query(request, (error, addresses) => {
    if (error !== null && before) answer(null, before);
    else answer(error, addresses);
  });
}

function query({ name, key }: LookupRequest, answer: Answer): void {
  const waiting = running.get(key);
  if (waiting !== undefined) return void waiting.push(answer);
  const all = [answer];
  running.set(key, all);
  lookup(name, { all: true }, (error, addresses) => {
    running.delete(key);
    if (error === null) known.set(key, addresses);
    for (const each of all) each(error, addresses);
  });
}
