import { join } from 'node:path';
import type { Secret } from '../../protocol/secret.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import { reason } from '../os/files.ts';
import { LockFile } from '../os/lock-file.ts';
import { deferSignals } from '../os/defer-signals.ts';
import { readSignIn, removeSignIn, signInDirectory, writeSignIn } from './session-store.ts';
import type { SavedSession } from './session-store.ts';
import { requestTokens } from '../oauth/token-request.ts';
import { deadlineSignal } from '../../base/deadline.ts';

/** A renewal may ask twice. */
const renewMs = 15_000;
/** For a holder that cannot be identified (another machine); longer than a renewal, since a refresh token can be used once. */
const patienceMs = 20_000;

/** Where a sign-in is and the way to its gateway. */
export interface SignInPlace {
  readonly state: string;
  readonly gateway: URL;
  readonly egress: Egress;
  readonly signal: AbortSignal;
}

/**
 * A sign-in with another access token than `spent`: what another process has fetched in the meantime, or what the
 * refresh token gives. It is on disk when this returns. One process at a time asks. Throws `TOKEN_MISSING` when the
 * sign-in has ended, `CONFIG_INVALID` where nothing can be written, and what `ask` throws.
 */
export async function renew(
  place: SignInPlace,
  spent: Secret,
  clockOffsetMs?: number,
): Promise<SavedSession> {
  const directory = signInDirectory(place.state, place.gateway);
  return withRenewalLock(directory, place.signal, async () => {
    const current = readSignIn(place.state, place.gateway);
    if (current === undefined) throw ended(place.gateway);
    if (current.accessToken.reveal() !== spent.reveal()) return current;
    const { refreshToken, key, clientId, tokenEndpoint: endpoint } = current;
    if (refreshToken === undefined) {
      removeSignIn(directory);
      throw ended(place.gateway);
    }
    const answer = await requestTokens(
      { endpoint, clientId, key, clockOffsetMs: clockOffsetMs ?? current.clockOffsetMs },
      { grant_type: 'refresh_token', refresh_token: refreshToken.reveal() },
      { egress: place.egress, signal: deadlineSignal(place.signal, renewMs) },
    );
    if (answer.kind === 'refused') {
      if (answer.error !== 'invalid_grant') {
        throw new ClientError('SIGN_IN_FAILED', `the gateway does not renew the sign-in: ${answer.error}`);
      }
      removeSignIn(directory);
      throw ended(place.gateway);
    }
    // The old refresh token is spent: the new one has to be on disk before anything else can go wrong.
    const next: SavedSession = {
      ...current,
      accessToken: answer.accessToken,
      refreshToken: answer.refreshToken ?? refreshToken,
      renewAt: answer.renewAt,
      expiresAt: answer.expiresAt,
      clockOffsetMs: answer.clockOffsetMs,
    };
    writeSignIn(directory, next);
    return next;
  });
}

/** Runs `change` while no other process changes the sign-in in `directory`. Throws `CONFIG_INVALID` where nothing can be written. */
export async function withRenewalLock<T>(
  directory: string,
  signal: AbortSignal,
  change: () => Promise<T>,
): Promise<T> {
  const lock = new LockFile(join(directory, 'renewal.lock'), patienceMs);
  try {
    await lock.acquire(signal);
  } catch (cause) {
    if (signal.aborted)
      throw new ClientError('SIGN_IN_TIMEOUT', 'another postern does not finish renewing the sign-in', {
        cause,
      });
    throw new ClientError('CONFIG_INVALID', `cannot write to ${directory}: ${reason(cause)}`, { cause });
  }
  try {
    return await deferSignals(change);
  } finally {
    lock.release();
  }
}

function ended(gateway: URL): ClientError {
  return new ClientError('TOKEN_MISSING', `your sign-in at ${gateway.href} has ended`);
}
