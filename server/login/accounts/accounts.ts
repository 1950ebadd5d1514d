import { z } from 'zod';
import { definedOnly } from '../../../base/defined-only.ts';
import type { Store, Table } from '../../store/store.ts';
import { attemptSucceeded, beginAttempt } from './login-throttle.ts';
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

/** What of an account may be shown. */
export interface Account {
  readonly name: string;
  readonly groups: readonly string[];
  readonly disabled: boolean;
  readonly hasOneTimeCode: boolean;
  readonly createdAt: string;
}

/** Who has signed in. */
export interface AccountIdentity {
  readonly subject: string;
  readonly groups: readonly string[];
}

/** What somebody types to sign in, and where from. */
export interface SignInAttempt {
  readonly name: string;
  readonly password: string;
  /** The one-time code, for accounts that have one. */
  readonly code?: string | undefined;
  readonly address: string;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Refused is always the same, whether the account, the password or the code was wrong or the account is disabled. */
export type SignInResult =
  ({ readonly kind: 'ok' } & AccountIdentity) | { readonly kind: 'refused'; readonly retryAfterMs?: number };

/** Two at a time: each takes 128 MiB. Those beyond the queue are sent away. */
const hashing = { atOnce: 2, queued: 20 } as const;
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
  const account = isAccountName(name) ? await read(store, name) : undefined;
  const isRight = await inTurn(() => isPassword(password, account?.password ?? dummyHash));
  if (isRight === 'busy') return { kind: 'refused', retryAfterMs: busyMs };
  if (!isRight || !account || account.disabled) return { kind: 'refused' };
  if (account.oneTimeSecret !== undefined && !(await consumeCode(store, { name, code, now: now() })))
    return { kind: 'refused' };
  await attemptSucceeded(store, attempt);
  return { kind: 'ok', subject: name, groups: account.groups };
}

/** Who an account is now: undefined when there is none, or it is disabled. Asked again at each renewal of a sign-in. */
export async function findAccount(store: Store, name: string): Promise<AccountIdentity | undefined> {
  const account = isAccountName(name) ? await read(store, name) : undefined;
  return account && !account.disabled ? { subject: name, groups: account.groups } : undefined;
}

/** Whether an account may be called that: no colon, which is in the subjects of providers, and nothing to hide behind. */
export function isAccountName(name: string): boolean {
  return /^[a-z0-9][a-z0-9._@-]{0,63}$/.test(name);
}

export interface NewAccount {
  readonly name: string;
  readonly password: string;
  readonly groups: readonly string[];
  readonly oneTimeSecret?: string | undefined;
}

/** Makes an account. Throws `AccountError`, `RangeError` for a password that may not be. */
export async function addAccount(store: Store, account: NewAccount): Promise<void> {
  const { name, password, groups, oneTimeSecret } = account;
  if (!isAccountName(name))
    throw new AccountError(
      `${JSON.stringify(name)} is no name for an account: use a-z, 0-9, . _ @ and -, at most 64`,
    );
  const stored: StoredAccount = {
    password: await hashPassword(password),
    groups,
    disabled: false,
    createdAt: new Date().toISOString(),
    ...(oneTimeSecret !== undefined && { oneTimeSecret }),
  };
  if (!(await accountsOf(store).add(name, stored)))
    throw new AccountError(`there is an account ${name} already`);
}

export interface AccountChange {
  readonly password?: string;
  readonly groups?: readonly string[];
  readonly disabled?: boolean;
  /** A new secret for one-time codes; null: without. */
  readonly oneTimeSecret?: string | null;
}

/** Changes what is given. Throws `AccountError` when there is no such account, `RangeError` for a password that may not be. */
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

/** Every account, by name. */
export async function listAccounts(store: Store): Promise<readonly Account[]> {
  return (await accountsOf(store).list()).map(([name, { groups, disabled, createdAt, oneTimeSecret }]) => ({
    name,
    groups,
    disabled,
    createdAt,
    hasOneTimeCode: oneTimeSecret !== undefined,
  }));
}

/** What the operator asked of an account cannot be done. */
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

/** Whether the code is right; in one step with remembering it, so that none is good twice. */
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

let running = 0;
const queue: (() => void)[] = [];

/** Runs `work` when it is its turn; `busy` when too many wait already. */
async function inTurn<T>(work: () => Promise<T>): Promise<T | 'busy'> {
  if (running >= hashing.atOnce) {
    if (queue.length >= hashing.queued) return 'busy';
    await new Promise<void>((resolve) => queue.push(resolve));
  } else running += 1;
  try {
    return await work();
  } finally {
    const next = queue.shift();
    if (next) next();
    else running -= 1;
  }
}
