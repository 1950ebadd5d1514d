import { z } from 'zod';
import { definedOnly } from '../../../base/defined-only.ts';
import { Semaphore } from '../../../base/semaphore.ts';
import type { Store, Table } from '../../store/store.ts';
import { beginAttempt, forgetFailures, takeBackAttempt } from './login-throttle.ts';
import { matchingStep } from './totp.ts';
import { dummyHash, hashPassword, isPassword, passwordHash } from './password.ts';

/** An account of the gateway, as the store has it. */
const storedAccount = z.object({
  password: passwordHash,
  groups: z.array(z.string()).readonly(),
  disabled: z.boolean(),
  createdAt: z.string(),
  /** The secret of its one-time codes, base32. */
  oneTimeSecret: z.string().exactOptional(),
  /** The time step of the last code that was accepted. */
  oneTimeStep: z.number().exactOptional(),
});
type StoredAccount = Readonly<z.output<typeof storedAccount>>;

function accountsOf(store: Store): Table<StoredAccount> {
  return store.table('accounts', storedAccount);
}

/** The public part of an account. */
export interface Account {
  readonly name: string;
  readonly groups: readonly string[];
  readonly disabled: boolean;
  readonly hasOneTimeCode: boolean;
  readonly createdAt: string;
}

/** The person who has signed in. */
export interface AccountIdentity {
  readonly subject: string;
  readonly groups: readonly string[];
}

/** The input of a person who signs in, and their address. */
export interface SignInAttempt {
  readonly name: string;
  readonly password: string;
  /** The one-time code, for accounts that have one. */
  readonly code?: string | undefined;
  readonly address: string;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * A refusal is always the same, whether the account, the password or the code was wrong or the account is disabled. `busy`:
 * too many passwords are being checked; nothing was found out about this one, and it does not count.
 */
export type SignInResult =
  | ({ readonly kind: 'ok' } & AccountIdentity)
  | { readonly kind: 'refused'; readonly retryAfterMs?: number }
  | { readonly kind: 'busy'; readonly retryAfterMs: number };

/** Each password that is hashed takes 128 MiB. Attempts beyond the queue are refused. */
const hashing = { concurrent: 2, queued: 20 } as const;
const busyMs = 5000;

/** Checks a name and a password. Failures make the next attempts wait, by account and by address. */
export async function verifyAccount(
  store: Store,
  { name: typed, password, code = '', address, now = Date.now }: SignInAttempt,
): Promise<SignInResult> {
  const name = typed.trim().toLowerCase();
  const attempt = { name, address };
  const retryAfterMs = await beginAttempt(store, attempt, now());
  if (retryAfterMs > 0) return { kind: 'refused', retryAfterMs };
  let isAnswered = false;
  try {
    const account = isAccountName(name) ? await read(store, name) : undefined;
    const isRight = await limited(() => isPassword(password, account?.password ?? dummyHash));
    if (isRight === 'busy') return { kind: 'busy', retryAfterMs: busyMs };
    isAnswered = true;
    if (!isRight || !account || account.disabled) return { kind: 'refused' };
    if (account.oneTimeSecret !== undefined && !(await consumeCode(store, { name, code, now: now() })))
      return { kind: 'refused' };
    await forgetFailures(store, attempt);
    return { kind: 'ok', subject: name, groups: account.groups };
  } finally {
    // Neither a queue that is full nor a store that fails is the person's mistake.
    if (!isAnswered) await takeBackAttempt(store, attempt);
  }
}

/** The account as it is now: undefined when there is none, or it is disabled. Read again at each renewal of a sign-in. */
export async function findAccount(store: Store, name: string): Promise<AccountIdentity | undefined> {
  const account = isAccountName(name) ? await read(store, name) : undefined;
  return account && !account.disabled ? { subject: name, groups: account.groups } : undefined;
}

/** Whether an account can have that name: no colon, which is in the subjects of providers, and no invisible characters. */
export function isAccountName(name: string): boolean {
  return /^[a-z0-9][a-z0-9._@-]{0,63}$/.test(name);
}

export interface NewAccount {
  readonly name: string;
  readonly password: string;
  readonly groups: readonly string[];
  readonly oneTimeSecret?: string | undefined;
}

/** Creates an account. Rejects with `AccountError`, and with `RangeError` for a password that is too short or too long. */
export async function addAccount(store: Store, account: NewAccount): Promise<void> {
  const { name, password, groups, oneTimeSecret } = account;
  if (!isAccountName(name))
    throw new AccountError(
      `${JSON.stringify(name)} is not a valid account name: use a-z, 0-9, . _ @ and -, at most 64 characters`,
    );
  const stored: StoredAccount = {
    password: await hashPassword(password),
    groups,
    disabled: false,
    createdAt: new Date().toISOString(),
    ...(oneTimeSecret !== undefined && { oneTimeSecret }),
  };
  if (!(await accountsOf(store).add(name, stored)))
    throw new AccountError(`there is already an account ${name}`);
}

export interface AccountChange {
  readonly password?: string;
  readonly groups?: readonly string[];
  readonly disabled?: boolean;
  /** A new secret for one-time codes; null: without. */
  readonly oneTimeSecret?: string | null;
}

/** Changes the given fields. Rejects with `AccountError` when there is no such account, and with `RangeError` for a password that is too short or too long. */
export async function changeAccount(store: Store, name: string, change: AccountChange): Promise<void> {
  const password = change.password === undefined ? undefined : await hashPassword(change.password);
  await accountsOf(store).update(name, (account) => {
    if (!account) throw new AccountError(`there is no account ${name}`);
    const { oneTimeSecret, oneTimeStep, ...rest } = account;
    const secret = change.oneTimeSecret === undefined ? oneTimeSecret : (change.oneTimeSecret ?? undefined);
    return {
      ...rest,
      ...(password && { password }),
      ...(change.groups && { groups: change.groups }),
      ...(change.disabled !== undefined && { disabled: change.disabled }),
      ...(secret !== undefined && { oneTimeSecret: secret }),
      ...(secret === oneTimeSecret && oneTimeStep !== undefined && { oneTimeStep }),
    };
  });
}

/** Every account, by name. `onDamaged` is called for each that cannot be read; without it, one of them rejects. */
export async function listAccounts(
  store: Store,
  onDamaged?: (name: string, error: Error) => void,
): Promise<readonly Account[]> {
  const rows = await accountsOf(store).list(onDamaged && ((error, name) => onDamaged(name, error)));
  return rows.map(([name, { groups, disabled, createdAt, oneTimeSecret }]) => ({
    name,
    groups,
    disabled,
    createdAt,
    hasOneTimeCode: oneTimeSecret !== undefined,
  }));
}

/** An operation on an account is not possible. */
export class AccountError extends Error {
  override readonly name = 'AccountError';
}

/** Whether there is an account of that name, disabled or not. */
export async function hasAccount(store: Store, name: string): Promise<boolean> {
  return (await accountsOf(store).get(name)) !== undefined;
}

async function read(store: Store, name: string): Promise<StoredAccount | undefined> {
  return accountsOf(store).get(name);
}

/** Whether the code is right; in one step with remembering it, so that no code is valid twice. */
async function consumeCode(
  store: Store,
  { name, code, now }: { name: string; code: string; now: number },
): Promise<boolean> {
  let isConsumed = false;
  await accountsOf(store).update(name, (account) => {
    if (account?.oneTimeSecret === undefined) return account;
    const { oneTimeSecret, oneTimeStep } = account;
    const step = matchingStep(code, oneTimeSecret, definedOnly({ nowMs: now, lastStep: oneTimeStep }));
    isConsumed = step !== undefined;
    return step === undefined ? account : { ...account, oneTimeStep: step };
  });
  return isConsumed;
}

const permits = new Semaphore(hashing.concurrent);
let pending = 0;

/** Runs `work` when a permit is free; resolves to `busy` when too many are waiting. */
async function limited<T>(work: () => Promise<T>): Promise<T | 'busy'> {
  if (pending >= hashing.concurrent + hashing.queued) return 'busy';
  pending += 1;
  let release: (() => void) | undefined;
  try {
    release = await permits.acquire();
    return await work();
  } finally {
    release?.();
    pending -= 1;
  }
}
