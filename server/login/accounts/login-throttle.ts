import { customerNetwork } from '../../net/cidr.ts';
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Store, Table } from '../../store/store.ts';

/** An attempt to sign in. */
export interface Attempt {
  /** The account, whether or not there is one of that name. */
  readonly name: string;
  readonly address: string;
}

/** The keys that an attempt is counted by, and how many can fail before each further one has to wait. */
const counters = [
  // An attacker that guesses one account from one network is stopped first, and locks no other person out.
  { by: ({ name, address }: Attempt) => ['both', name, customerNetwork(address)], free: 5 },
  { by: ({ address }: Attempt) => ['address', customerNetwork(address)], free: 20 },
  // From many networks at once: then the account itself has to wait, wherever its owner is.
  { by: ({ name }: Attempt) => ['account', name], free: 20 },
] as const;

const firstWaitMs = 30_000;
const maxWaitMs = 15 * 60_000;
/** After a day without attempts all is forgotten. */
const forgetMs = 24 * 3_600_000;

const countSchema = z.object({ failures: z.number(), waitUntil: z.number() });
type Count = Readonly<z.output<typeof countSchema>>;

function countsOf(store: Store): Table<Count> {
  return store.table('loginAttempts', countSchema);
}

/**
 * Counts an attempt as failed before its password is checked, so that many at once count too. Resolves to how long it has
 * to wait, in milliseconds; 0 when it can proceed.
 */
export async function beginAttempt(store: Store, attempt: Attempt, now: number): Promise<number> {
  const keys = counters.map(({ by, free }) => ({ key: keyOf(by(attempt)), free }));
  const counts = countsOf(store);
  const waits = await Promise.all(keys.map(async ({ key }) => waitOf(await counts.get(key), now)));
  let waitMs = Math.max(...waits);
  const counted: string[] = [];
  try {
    for (const { key, free } of keys) {
      if (waitMs > 0) break;
      const count = (before: Count | undefined): Count | undefined => {
        // Another attempt can have come first.
        waitMs = waitOf(before, now);
        if (waitMs > 0) return before;
        const failures = (before?.failures ?? 0) + 1;
        return { failures, waitUntil: failures < free ? 0 : now + waitAfter(failures - free) };
      };
      await counts.update(key, count, { expiresAt: now + forgetMs });
      if (waitMs === 0) counted.push(key);
    }
    if (counted.length === keys.length) counted.length = 0;
  } finally {
    // An attempt that has to wait after all, or that could not be counted everywhere, is counted nowhere.
    for (const key of counted) await counts.update(key, oneFewer);
  }
  return waitMs;
}

/** Makes the counts what they would be without an attempt that could proceed, but whose password was not checked. */
export async function takeBackAttempt(store: Store, attempt: Attempt): Promise<void> {
  for (const { by } of counters) await countsOf(store).update(keyOf(by(attempt)), oneFewer);
}

/** The attempt could proceed, so nothing had to wait before it. */
function oneFewer(count: Count | undefined): Count | undefined {
  return count && count.failures > 1 ? { failures: count.failures - 1, waitUntil: 0 } : undefined;
}

function waitOf(count: Count | undefined, now: number): number {
  return Math.max(0, (count?.waitUntil ?? 0) - now);
}

/** Takes back what `beginAttempt` has counted for a right password, and forgets the failures before it; those of the address stay. */
export async function forgetFailures(store: Store, attempt: Attempt): Promise<void> {
  const [both, address, account] = counters.map(({ by }) => keyOf(by(attempt)));
  const counts = countsOf(store);
  await counts.delete(both!);
  await counts.delete(account!);
  await counts.update(address!, oneFewer);
}

/** 30 s, 1 min, 2 min … 15 min. */
function waitAfter(failuresBeyond: number): number {
  return Math.min(firstWaitMs * 2 ** Math.min(failuresBeyond, 10), maxWaitMs);
}

/** People type passwords into the field for the name: the key is a hash. */
function keyOf(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64url');
}
