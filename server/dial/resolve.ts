import { Resolver } from 'node:dns/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { onAbort, withDeadline } from '../../base/deadline.ts';
import { FairSemaphore } from '../../base/fair-semaphore.ts';
import { TunnelError } from '../../protocol/errors.ts';
import { addressBytes } from '../net/cidr.ts';
import { TtlCache } from './ttl-cache.ts';

/** Resolves names to addresses. */
export interface NameResolver {
  /**
   * Resolves to at least one literal address; none has been checked against the network policy.
   * Rejects with `NAME_NOT_FOUND`, `NAME_FAILED`, `NAME_TIMEOUT`, or the reason of the signal when it aborts. Callers of
   * one `holder` get their turns among themselves, and hold up no others.
   */
  resolve(name: string, signal: AbortSignal, holder?: string): Promise<readonly string[]>;
}

export interface ResolveOptions {
  /** Each `address` or `address:port`; empty: the system's. */
  readonly nameServers: readonly string[];
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

const tryMs = 1000;
const tries = 2;
// c-ares doubles the time at the second try and queries each server: E7 measured 4 s for one dead server.
const queryMs = 4500;
const permitMs = 1500;
/** Of all, of one holder, and how many of one holder wait. Names whose servers are silent keep theirs for up to `queryMs`. */
const permits = { limit: 256, perHolder: 32, maxWaiting: 256 };
const maxAddresses = 16;
const maxNames = 4096;
const knownLifeMs = 24 * 3_600_000;
const minLifeMs = 1000;
const maxLifeMs = 60_000;
const failureLifeMs = 2000;
// RFC 8305 §3 waits 50 ms for the other family; a name server across a WAN needs longer.
const otherFamilyMs = 250;

type Failure = 'NAME_NOT_FOUND' | 'NAME_FAILED' | 'NAME_TIMEOUT';
type Answer =
  { readonly addresses: readonly string[] } | { readonly failure: Failure; readonly cause?: unknown };

/**
 * Queries DNS through c-ares, never `getaddrinfo`: four hanging names would hold up every other lookup for 20 s, and the
 * hosts file and search domains would give one name several meanings. Answers are cached for their TTL, 1 to 60 s;
 * callers that wait for the same name share one query.
 */
export function nameResolver({ nameServers, now = () => performance.now() }: ResolveOptions): NameResolver {
  const resolver = new Resolver({ timeout: tryMs, tries });
  if (nameServers.length > 0) resolver.setServers([...nameServers]);
  const cache = new TtlCache<Answer>(now, maxNames);
  const running = new Map<string, Promise<Answer>>();
  /** Names that had an answer when they were last looked up do not wait behind those that never had one. */
  const known = new TtlCache<true>(now, maxNames);
  const [forKnown, forOthers] = [new FairSemaphore(permits), new FairSemaphore(permits)];

  async function query(name: string, release: () => void): Promise<Answer> {
    const { found, settled } = lookUp(resolver, name);
    // The permit is held as long as c-ares works on the query, not as long as callers wait for it.
    void settled.finally(release);
    const { answer, lifeMs } = await found;
    cache.set(name, answer, lifeMs);
    if ('addresses' in answer) known.set(name, true, knownLifeMs);
    else known.delete(name);
    return answer;
  }

  /** The answer of the query that runs for the name, or of a new one, when it is the holder's turn. */
  async function lookUpInTurn(name: string, holder: string, signal: AbortSignal): Promise<Answer> {
    const shared = running.get(name);
    if (shared) return shared;
    const semaphore = known.get(name) ? forKnown : forOthers;
    const release = await acquire(semaphore, holder, signal);
    if (release === undefined) return { failure: 'NAME_TIMEOUT' };
    // Another caller can have had its turn for the same name meanwhile.
    const found = cache.get(name) ?? running.get(name);
    if (found !== undefined) {
      release();
      return found;
    }
    const answer = query(name, release).finally(() => running.delete(name));
    running.set(name, answer);
    return answer;
  }

  return {
    async resolve(name, signal, holder = '') {
      signal.throwIfAborted();
      const answer = cache.get(name) ?? (await unlessAborted(lookUpInTurn(name, holder, signal), signal));
      if ('failure' in answer)
        throw new TunnelError(answer.failure, messages[answer.failure], { cause: answer.cause });
      return answer.addresses;
    },
  };
}

/** The answer for one address family. */
interface Family {
  readonly addresses: readonly string[];
  readonly ttlSeconds: number;
  /** The c-ares code when there are no addresses. */
  readonly code?: string;
  readonly cause?: unknown;
}

interface Found {
  readonly answer: Answer;
  readonly lifeMs: number;
}

/** A permit within `permitMs`, or undefined. */
async function acquire(
  semaphore: FairSemaphore,
  holder: string,
  signal: AbortSignal,
): Promise<(() => void) | undefined> {
  return withDeadline(signal, permitMs, (inTime) => semaphore.acquire(holder, inTime)).catch(() => undefined);
}

function lookUp(resolver: Resolver, name: string): { found: Promise<Found>; settled: Promise<unknown> } {
  const v4 = queryFamily(() => resolver.resolve4(name, { ttl: true }));
  const v6 = queryFamily(() => resolver.resolve6(name, { ttl: true }));
  const settled = Promise.all([v4, v6]);
  return { settled, found: firstUseful(settled, [v4, v6]) };
}

/** Both families; or one that has addresses when the other has not answered for a while; or neither in time. */
async function firstUseful(
  settled: Promise<readonly Family[]>,
  families: readonly Promise<Family>[],
): Promise<Found> {
  const enough = families.map(async (family) => {
    const got = await family;
    if (got.addresses.length === 0) return settled;
    return Promise.race([settled, wait(otherFamilyMs, [got], { ref: false })]);
  });
  const timedOut: Family = { addresses: [], ttlSeconds: 0, code: 'ETIMEOUT' };
  return combine(await Promise.race([...enough, wait(queryMs, [timedOut], { ref: false })]));
}

async function queryFamily(
  resolve: () => Promise<readonly { address: string; ttl: number }[]>,
): Promise<Family> {
  try {
    const records = await resolve();
    const usable = records.filter(({ address }) => addressBytes(address) !== undefined);
    const ttlSeconds = Math.min(...usable.map(({ ttl }) => ttl));
    return { addresses: usable.map(({ address }) => address), ttlSeconds };
  } catch (cause) {
    return { addresses: [], ttlSeconds: 0, code: (cause as NodeJS.ErrnoException).code ?? '', cause };
  }
}

function combine(families: readonly Family[]): Found {
  const withAddresses = families.filter(({ addresses }) => addresses.length > 0);
  if (withAddresses.length > 0) {
    const ttlMs = Math.min(...withAddresses.map(({ ttlSeconds }) => ttlSeconds)) * 1000;
    return {
      answer: { addresses: pick(withAddresses) },
      lifeMs: Math.min(maxLifeMs, Math.max(minLifeMs, ttlMs)),
    };
  }
  // "No such name" holds for the name, whichever family was queried; next comes the failure that a retry can overcome.
  const order: readonly (readonly [string, Failure])[] = [
    ['ENOTFOUND', 'NAME_NOT_FOUND'],
    ['ETIMEOUT', 'NAME_TIMEOUT'],
  ];
  const known = order.find(([code]) => families.some((family) => family.code === code));
  const nothing = families.every(({ code }) => code === 'ENODATA' || code === undefined);
  const failure = known?.[1] ?? (nothing ? 'NAME_NOT_FOUND' : 'NAME_FAILED');
  return { answer: { failure, cause: families.find(({ cause }) => cause)?.cause }, lifeMs: failureLifeMs };
}

/** Some of each family, so that a long list of one does not hide the other. */
function pick(families: readonly Family[]): readonly string[] {
  const each = Math.floor(maxAddresses / families.length);
  return families.flatMap(({ addresses }) => addresses.slice(0, each));
}

// Without the name: the DNS name behind a target can be one that the caller must not learn.
const messages: Record<Failure, string> = {
  NAME_NOT_FOUND: 'there is no such name in the DNS',
  NAME_FAILED: 'the name servers failed',
  NAME_TIMEOUT: 'the name servers did not answer',
};

/** Settles as the promise does, or rejects with the signal's reason when that comes first. The promise continues for other callers. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const removeListener = onAbort(signal, () => aborted.reject(signal.reason as Error));
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    removeListener();
  }
}
