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

/** Two requests: the second one with the nonce that the first was asked for. */
const renewMs = 15_000;
/** For a holder that cannot be identified (another machine); longer than a renewal, since a refresh token can be used once. */
const patienceMs = 20_000;

/** The sign-in to renew, and the connection to its gateway. */
export interface RenewalRequest {
  readonly state: string;
  readonly gateway: URL;
  readonly egress: Egress;
  readonly signal: AbortSignal;
}

/**
 * Renews the access token `spent`: resolves to what another process has fetched in the meantime, or to the result of the
 * refresh token (RFC 6749 §6), which is on disk then. One process at a time renews. Throws `TOKEN_MISSING` when the
 * sign-in has ended, `CONFIG_INVALID` where nothing can be written, and as `requestTokens`.
 */
export async function renew(
  request: RenewalRequest,
  spent: Secret,
  clockOffsetMs?: number,
): Promise<SavedSession> {
  const directory = signInDirectory(request.state, request.gateway);
  return withRenewalLock(directory, request.signal, async () => {
    const current = readSignIn(request.state, request.gateway);
    if (current === undefined) throw ended(request.gateway);
    if (current.accessToken.reveal() !== spent.reveal()) return current;
    const { refreshToken, key, clientId, tokenEndpoint: endpoint } = current;
    if (refreshToken === undefined) {
      removeSignIn(directory);
      throw ended(request.gateway);
    }
    const answer = await requestTokens(
      { endpoint, clientId, key, clockOffsetMs: clockOffsetMs ?? current.clockOffsetMs },
      { grant_type: 'refresh_token', refresh_token: refreshToken.reveal() },
      { egress: request.egress, signal: deadlineSignal(request.signal, renewMs) },
    );
    if (answer.kind === 'refused') {
      if (answer.error !== 'invalid_grant') {
        throw new ClientError('SIGN_IN_FAILED', `the gateway did not renew the sign-in: ${answer.error}`);
      }
      removeSignIn(directory);
      throw ended(request.gateway);
    }
    // The old refresh token is used up: the new one must be on disk before anything else can fail.
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
      throw new ClientError(
        'SIGN_IN_TIMEOUT',
        'another postern process takes too long to renew the sign-in',
        {
          cause,
        },
      );
    throw new ClientError('CONFIG_INVALID', `cannot write to ${directory}: ${reason(cause)}`, { cause });
  }
  try {
    return await deferSignals(change);
  } finally {
    lock.release();
  }
}

function ended(gateway: URL): ClientError {
  return new ClientError('TOKEN_MISSING', `your sign-in to ${gateway.href} has ended`);
}
