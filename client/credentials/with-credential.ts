import type { Secret } from '../../protocol/secret.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import { createDpopProof } from '../oauth/dpop.ts';
import type { Prove } from '../oauth/dpop.ts';
import { readSignIn, signInDirectory } from './session-store.ts';
import { signInPath } from './session-path.ts';
import type { SavedSession } from './session-store.ts';
import { givenToken } from './static-token.ts';
import type { TokenSources } from './static-token.ts';

/** What shows the gateway who asks. */
export interface Credential {
  readonly token: Secret;
  /** Where it came from: a file, or the name of a variable. */
  readonly from: string;
  /** For a token that is bound to a key; without its proof the gateway does not take it. */
  readonly createProof?: Prove;
}

/** A credential without its source. */
export type PresentedCredential = Pick<Credential, 'token' | 'createProof'>;

/** Where a pass may come from and the way to the gateway that renews it. */
export interface CredentialSource {
  readonly sources: TokenSources;
  readonly gateway: URL;
  readonly egress: Egress;
  readonly signal: AbortSignal;
}

/** The gateway takes proofs that are off by a minute. */
const toleratedMs = 45_000;

/** The fields that show a pass to the gateway in a request (RFC 6750, RFC 9449 §7.1). */
export function authHeaders(
  pass: PresentedCredential,
  method: 'GET' | 'POST',
  url: URL,
): { Authorization: string; DPoP?: string } {
  const token = pass.token.reveal();
  return pass.createProof === undefined
    ? { Authorization: `Bearer ${token}` }
    : { Authorization: `DPoP ${token}`, DPoP: pass.createProof(method, url) };
}

/**
 * Runs `use` with the pass for the gateway: a given token, else the sign-in, renewed when it is about to end. When the
 * gateway refuses a sign-in's pass, `use` runs again with what may help: the nonce it asks for, its own time, or a new
 * access token, each once. Throws `TOKEN_MISSING`, `CONFIG_INVALID`, and what `use` throws.
 */
export async function withCredential<T>(
  place: CredentialSource,
  use: (pass: Credential) => Promise<T>,
): Promise<T> {
  const given = givenToken(place.sources, new Date());
  if (given !== undefined) return use(given);
  let signIn = await currentSignIn(place);
  let offset = signIn.clockOffsetMs;
  let nonce: string | undefined;
  const remedies = new Set(['nonce', 'clock', 'renewal']);
  for (;;) {
    try {
      return await use(credentialOf(signIn, place, { offset, nonce }));
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'TOKEN_INVALID') throw error;
      const { nonce: asked, date } = error.challenge ?? {};
      const isOff = date !== undefined && Math.abs(date - (Date.now() + offset)) > toleratedMs;
      if (asked !== undefined && remedies.delete('nonce')) nonce = asked;
      else if (isOff && remedies.delete('clock')) offset = date - Date.now();
      else if (remedies.delete('renewal')) signIn = await renewed(place, signIn, offset);
      else throw refused(error);
    }
  }
}

/** The sign-in with an access token that is good for a while. Throws `TOKEN_MISSING` when there is none. */
async function currentSignIn(place: CredentialSource): Promise<SavedSession> {
  const signIn = readSignIn(place.sources.state, place.gateway);
  if (signIn === undefined)
    throw new ClientError('TOKEN_MISSING', `you are not signed in at ${place.gateway.href}`);
  const { refreshToken, renewAt, expiresAt } = signIn;
  if (Date.now() < (refreshToken === undefined ? expiresAt : renewAt)) return signIn;
  try {
    return await renewed(place, signIn);
  } catch (error) {
    // The last seconds of a token are worth something when the renewal has only not got through.
    const isOver = error instanceof ClientError && error.code === 'TOKEN_MISSING';
    if (isOver || Date.now() >= expiresAt) throw error;
    return signIn;
  }
}

async function renewed(
  place: CredentialSource,
  signIn: SavedSession,
  offset?: number,
): Promise<SavedSession> {
  const { renew } = await import('./refresh.ts');
  return renew({ ...place, state: place.sources.state }, signIn.accessToken, offset);
}

function credentialOf(
  signIn: SavedSession,
  place: CredentialSource,
  { offset, nonce }: { readonly offset: number; readonly nonce: string | undefined },
): Credential {
  const { accessToken, key } = signIn;
  return {
    token: accessToken,
    from: signInPath(signInDirectory(place.sources.state, place.gateway)),
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

/** A sign-in that is not believed any more: signing in again may help, the token itself tells nothing. */
function refused(cause: ClientError): ClientError {
  const { requestId } = cause;
  const context = requestId === undefined ? {} : { requestId };
  return new ClientError('TOKEN_INVALID', cause.message, { cause, ...context, hint: 'postern login' });
}
