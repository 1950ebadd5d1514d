import { createHash, randomBytes } from 'node:crypto';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import type { AuthorizationServer } from '../oauth/authorization-server.ts';
import { openLoopback } from './loopback-server.ts';
import type { ProofKey } from '../oauth/dpop.ts';
import { requestTokens } from '../oauth/token-request.ts';
import type { IssuedTokens } from '../oauth/token-request.ts';

/** What a sign-in needs besides the server. */
export interface SignInWays {
  readonly egress: Egress;
  readonly key: ProofKey;
  readonly signal: AbortSignal;
  /** Tells the person where to go; `code` is to be typed there. */
  readonly invite: (url: URL, code?: string) => void;
}

/**
 * Signs in with the browser of this machine: code with PKCE, back to a loopback address (RFC 8252). Throws
 * `SIGN_IN_FAILED` when the person or the gateway says no, or what comes back is not the answer to what was asked.
 */
export async function signInByBrowser(server: AuthorizationServer, ways: SignInWays): Promise<IssuedTokens> {
  const loopback = await openLoopback();
  try {
    const { redirectUri } = loopback;
    const [verifier, state] = [random(), random()];
    const url = new URL(server.authorizationEndpoint);
    const question = {
      response_type: 'code',
      client_id: server.clientId,
      redirect_uri: redirectUri,
      scope: server.scope,
      state,
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
      // Without our key the code is worth nothing either (RFC 9449 §10).
      dpop_jkt: ways.key.thumbprint,
    };
    for (const [name, value] of Object.entries(question)) url.searchParams.set(name, value);
    ways.invite(url);
    const arrival = await loopback.arrival(ways.signal);
    try {
      const code = readCode(arrival.parameters, { state, issuer: server.issuer });
      const tokens = await requestTokens(
        { endpoint: server.tokenEndpoint, ...server, key: ways.key },
        { grant_type: 'authorization_code', code, redirect_uri: redirectUri, code_verifier: verifier },
        ways,
      );
      if (tokens.kind === 'refused')
        throw new ClientError('SIGN_IN_FAILED', `the gateway does not accept the sign-in: ${tokens.error}`);
      await arrival.show('done');
      return tokens;
    } catch (error) {
      await arrival.show('failed');
      throw error;
    }
  } finally {
    loopback.close();
  }
}

/** The code in an authorization response that answers our own question. Throws `SIGN_IN_FAILED`. */
export function readCode(
  parameters: URLSearchParams,
  expected: { readonly state: string; readonly issuer: string },
): string {
  for (const name of new Set(parameters.keys()))
    if (parameters.getAll(name).length > 1) throw foreign(`has ${name} twice`);
  if (parameters.get('state') !== expected.state) throw foreign('is not the answer to this sign-in (state)');
  // Another server could pass its own answer off as the gateway's (RFC 9207).
  if (parameters.get('iss') !== expected.issuer)
    throw foreign('is from somebody else than the gateway (iss)');
  const error = parameters.get('error');
  if (error === 'access_denied')
    throw new ClientError('SIGN_IN_FAILED', 'the sign-in was refused in the browser');
  if (error !== null) throw new ClientError('SIGN_IN_FAILED', `the gateway refuses the sign-in: ${error}`);
  const code = parameters.get('code');
  if (code === null || code === '') throw foreign('has no code');
  return code;
}

function foreign(what: string): ClientError {
  return new ClientError('SIGN_IN_FAILED', `what the browser brought back ${what}`);
}

function random(): string {
  return randomBytes(32).toString('base64url');
}
