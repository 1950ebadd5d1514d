import { Resolver } from 'node:dns/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { TunnelError } from '../../protocol/errors.ts';
import { addressBytes } from '../net/cidr.ts';
import { TtlCache } from './ttl-cache.ts';
import { turns } from './semaphore.ts';

/** Turns a name into addresses. */
export interface NameResolver {
  /**
   * At least one literal address. None of them has been checked against the network policy.
   * Throws `NAME_NOT_FOUND`, `NAME_FAILED`, `NAME_TIMEOUT`; the signal's reason when aborted.
   */
  resolve(name: string, signal: AbortSignal): Promise<readonly string[]>;
}

export interface ResolveOptions {
  /** `address` or `address:port`; empty: the system's. */
  readonly nameServers: readonly string[];
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

const tryMs = 1000;
const tries = 2;
// c-ares doubles the time at the second try and asks each server: E7 measured 4 s for one dead server.
const queryMs = 4500;
const turnMs = 1000;
const concurrent = 64;
const maxAddresses = 16;
const maxNames = 4096;
const minLifeMs = 1000;
const maxLifeMs = 60_000;
const failureLifeMs = 2000;
// RFC 8305 §3 waits 50 ms for the other family; a name server on the far side of a WAN needs some more.
const otherFamilyMs = 250;

type Failure = 'NAME_NOT_FOUND' | 'NAME_FAILED' | 'NAME_TIMEOUT';
type Answer =
  { readonly addresses: readonly string[] } | { readonly failure: Failure; readonly cause?: unknown };

/**
 * Asks DNS by c-ares, never by `getaddrinfo`: four hanging names would hold up every other look-up for 20 s, and the
 * hosts file and search domains would let one name mean several things. Answers are kept for their TTL, 1 to 60 s;
 * a name is asked for once however many wait for it.
 */
export function nameResolver({ nameServers, now = () => performance.now() }: ResolveOptions): NameResolver {
  const resolver = new Resolver({ timeout: tryMs, tries });
  if (nameServers.length > 0) resolver.setServers([...nameServers]);
  const cache = new TtlCache<Answer>(now, maxNames);
  const asking = new Map<string, Promise<Answer>>();
  const queue = turns(concurrent);

  async function ask(name: string): Promise<Answer> {
    if (!(await queue.take(AbortSignal.timeout(turnMs)))) return { failure: 'NAME_TIMEOUT' };
    const query = lookUp(resolver, name);
    // The turn lasts as long as c-ares works on it, not as long as we wait.
    void query.settled.finally(() => queue.give());
    const { answer, lifeMs } = await query.found;
    cache.set(name, answer, lifeMs);
    return answer;
  }

  function share(name: string): Promise<Answer> {
    const running = asking.get(name);
    if (running) return running;
    const answer = ask(name).finally(() => asking.delete(name));
    asking.set(name, answer);
    return answer;
  }

  return {
    async resolve(name, signal) {
      signal.throwIfAborted();
      const answer = cache.get(name) ?? (await orAborted(share(name), signal));
      if ('failure' in answer)
        throw new TunnelError(answer.failure, messages[answer.failure], { cause: answer.cause });
      return answer.addresses;
    },
  };
}

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

function lookUp(resolver: Resolver, name: string): { found: Promise<Found>; settled: Promise<unknown> } {
  const v4 = askFamily(() => resolver.resolve4(name, { ttl: true }));
  const v6 = askFamily(() => resolver.resolve6(name, { ttl: true }));
  const settled = Promise.all([v4, v6]);
  return { settled, found: firstUseful(settled, [v4, v6]) };
}

/** Both families; or one that has addresses and no word of the other for a while; or none of them in time. */
async function firstUseful(
  settled: Promise<readonly Family[]>,
  families: readonly Promise<Family>[],
): Promise<Found> {
  const enough = families.map(async (family) => {
    const got = await family;
    if (got.addresses.length === 0) return settled;
    return Promise.race([settled, wait(otherFamilyMs, [got], { ref: false })]);
  });
  const late: Family = { addresses: [], ttlSeconds: 0, code: 'ETIMEOUT' };
  return weigh(await Promise.race([...enough, wait(queryMs, [late], { ref: false })]));
}

async function askFamily(ask: () => Promise<readonly { address: string; ttl: number }[]>): Promise<Family> {
  try {
    const records = await ask();
    const usable = records.filter(({ address }) => addressBytes(address) !== undefined);
    const ttlSeconds = Math.min(...usable.map(({ ttl }) => ttl));
    return { addresses: usable.map(({ address }) => address), ttlSeconds };
  } catch (cause) {
    return { addresses: [], ttlSeconds: 0, code: (cause as NodeJS.ErrnoException).code ?? '', cause };
  }
}

function weigh(families: readonly Family[]): Found {
  const withAddresses = families.filter(({ addresses }) => addresses.length > 0);
  if (withAddresses.length > 0) {
    const ttlMs = Math.min(...withAddresses.map(({ ttlSeconds }) => ttlSeconds)) * 1000;
    return {
      answer: { addresses: pick(withAddresses) },
      lifeMs: Math.min(maxLifeMs, Math.max(minLifeMs, ttlMs)),
    };
  }
  // "No such name" is about the name, whichever family was asked; after it, the failure that another try may mend.
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

// Without the name: a target's own name in the DNS may be nothing that the caller should know.
const messages: Record<Failure, string> = {
  NAME_NOT_FOUND: 'there is no such name in the DNS',
  NAME_FAILED: 'the name servers failed',
  NAME_TIMEOUT: 'the name servers did not answer',
};

/** The promise, or the signal's reason when that comes first. The promise goes on for others. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
