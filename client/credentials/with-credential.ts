import type { Secret } from '../../protocol/secret.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import { clockOffset, createDpopProof, isClockOff } from '../oauth/dpop.ts';
import type { Prove } from '../oauth/dpop.ts';
import { readSignIn, signInDirectory } from './session-store.ts';
import { signInPath } from './session-path.ts';
import type { SavedSession } from './session-store.ts';
import { expiryError, givenToken } from './static-token.ts';
import type { FoundToken, TokenSources } from './static-token.ts';

/** What authenticates the client to the gateway. */
export interface Credential {
  readonly token: Secret;
  /** Its source: a path, or the name of a variable. */
  readonly from: string;
  /** Creates the DPoP proof of a token that is bound to a key; the gateway rejects such a token without one. */
  readonly createProof?: Prove;
}

/** A credential without its source. */
export type PresentedCredential = Pick<Credential, 'token' | 'createProof'>;

/** The possible sources of a credential, and the connection to the gateway that renews it. */
export interface CredentialSource {
  readonly sources: TokenSources;
  readonly gateway: URL;
  readonly egress: Egress;
  readonly signal: AbortSignal;
}

/** The header fields that carry a credential (RFC 6750 §2.1, RFC 9449 §7.1). */
export function authHeaders(
  credential: PresentedCredential,
  method: 'GET' | 'POST',
  url: URL,
): { Authorization: string; DPoP?: string } {
  const token = credential.token.reveal();
  return credential.createProof === undefined
    ? { Authorization: `Bearer ${token}` }
    : { Authorization: `DPoP ${token}`, DPoP: credential.createProof(method, url) };
}

/**
 * Runs `use` with the credential for the gateway: a given token, else the sign-in, renewed when it is about to expire.
 * When the gateway rejects the token of a sign-in, `use` runs again with each possible remedy once: the nonce that the
 * gateway asks for, the gateway's time, a new access token. Throws `TOKEN_MISSING`, `CONFIG_INVALID`, and what `use` throws.
 */
export async function withCredential<T>(
  source: CredentialSource,
  use: (credential: Credential) => Promise<T>,
): Promise<T> {
  const given = givenToken(source.sources);
  if (given !== undefined) return useGiven(given, use);
  let signIn = await currentSignIn(source);
  let offset = signIn.clockOffsetMs;
  let nonce: string | undefined;
  const remedies = new Set(['nonce', 'clock', 'renewal']);
  for (;;) {
    try {
      return await use(credentialOf(signIn, source, { offset, nonce }));
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'TOKEN_INVALID') throw error;
      const challenge = error.challenge ?? {};
      const { nonce: requestedNonce } = challenge;
      if (requestedNonce !== undefined && remedies.delete('nonce')) nonce = requestedNonce;
      else if (isClockOff(challenge, offset) && remedies.delete('clock')) offset = clockOffset(challenge);
      else if (remedies.delete('renewal')) signIn = await renewed(source, signIn, offset);
      else throw rejected(error);
    }
  }
}

/** Whether a given token has expired is for the gateway to say, whose clock counts; the reason for its refusal is known here. */
async function useGiven<T>(given: FoundToken, use: (credential: Credential) => Promise<T>): Promise<T> {
  try {
    return await use(given);
  } catch (error) {
    if (!(error instanceof ClientError) || error.code !== 'TOKEN_INVALID') throw error;
    throw expiryError(given, new Date(error.challenge?.date ?? Date.now()), error) ?? error;
  }
}

/** The sign-in, with an access token that is valid for a while. Throws `TOKEN_MISSING` when there is none. */
async function currentSignIn(source: CredentialSource): Promise<SavedSession> {
  const signIn = readSignIn(source.sources.state, source.gateway);
  if (signIn === undefined)
    throw new ClientError('TOKEN_MISSING', `you are not signed in to ${source.gateway.href}`);
  const { refreshToken, renewAt, expiresAt } = signIn;
  // Where nothing can renew it, its end is for the gateway to say: this clock may have been set.
  if (refreshToken === undefined || Date.now() < renewAt) return signIn;
  try {
    return await renewed(source, signIn);
  } catch (error) {
    // When the renewal failed on the network, the last seconds of the old token are still of use.
    const isOver = error instanceof ClientError && error.code === 'TOKEN_MISSING';
    if (isOver || Date.now() >= expiresAt) throw error;
    return signIn;
  }
}

async function renewed(
  source: CredentialSource,
  signIn: SavedSession,
  offset?: number,
): Promise<SavedSession> {
  const { renew } = await import('./refresh.ts');
  return renew({ ...source, state: source.sources.state }, signIn.accessToken, offset);
}

function credentialOf(
  signIn: SavedSession,
  source: CredentialSource,
  { offset, nonce }: { readonly offset: number; readonly nonce: string | undefined },
): Credential {
  const { accessToken, key } = signIn;
  return {
    token: accessToken,
    from: signInPath(signInDirectory(source.sources.state, source.gateway)),
    createProof: (method, url) =>
      createDpopProof(key, {
        method,
        url,
        now: Date.now() + offset,
        token: accessToken.reveal(),
        ...(nonce === undefined ? {} : { nonce }),
      }),
  };
}

/** The error of a sign-in that is no longer trusted: the hint is to sign in again. */
function rejected(cause: ClientError): ClientError {
  const { requestId } = cause;
  const context = requestId === undefined ? {} : { requestId };
  return new ClientError('TOKEN_INVALID', cause.message, { cause, ...context, hint: 'postern login' });
}
