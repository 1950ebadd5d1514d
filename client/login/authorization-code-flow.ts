import { createHash, randomBytes } from 'node:crypto';
import type { Egress } from '../egress/egress.ts';
import { ClientError } from '../errors/failure.ts';
import type { AuthorizationServerMetadata } from '../oauth/authorization-server.ts';
import { openLoopback } from './loopback-server.ts';
import type { ProofKey } from '../oauth/dpop.ts';
import { requestTokens } from '../oauth/token-request.ts';
import type { IssuedTokens } from '../oauth/token-request.ts';

/** What a login flow needs besides the server's metadata. */
export interface LoginFlowOptions {
  readonly egress: Egress;
  readonly key: ProofKey;
  readonly signal: AbortSignal;
  /** Shows the person the URL to open, and the code to type there, if there is one. */
  readonly invite: (url: URL, code?: string) => void;
}

/**
 * Signs in with the browser of this machine: authorization code with PKCE (RFC 7636), redirected to a loopback address
 * (RFC 8252). Throws `SIGN_IN_FAILED` when the person or the gateway denies it, or the response is not the one to this
 * request; the reason of `signal` when that aborts.
 */
export async function signInByBrowser(
  server: AuthorizationServerMetadata,
  options: LoginFlowOptions,
): Promise<IssuedTokens> {
  const loopback = await openLoopback();
  try {
    const { redirectUri } = loopback;
    const [verifier, state] = [random(), random()];
    const url = new URL(server.authorizationEndpoint);
    const parameters = {
      response_type: 'code',
      client_id: server.clientId,
      redirect_uri: redirectUri,
      scope: server.scope,
      state,
      code_challenge: createHash('sha256').update(verifier).digest('base64url'),
      code_challenge_method: 'S256',
      // Binds the code to the client's key too (RFC 9449 §10).
      dpop_jkt: options.key.thumbprint,
    };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    options.invite(url);
    const arrival = await loopback.arrival(options.signal);
    try {
      const code = readCode(arrival.parameters, { state, issuer: server.issuer });
      const tokens = await requestTokens(
        { endpoint: server.tokenEndpoint, ...server, key: options.key },
        { grant_type: 'authorization_code', code, redirect_uri: redirectUri, code_verifier: verifier },
        options,
      );
      if (tokens.kind === 'refused')
        throw new ClientError('SIGN_IN_FAILED', `the gateway did not accept the sign-in: ${tokens.error}`);
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

/** Reads the code from an authorization response that belongs to this request. Throws `SIGN_IN_FAILED`. */
export function readCode(
  parameters: URLSearchParams,
  expected: { readonly state: string; readonly issuer: string },
): string {
  for (const name of new Set(parameters.keys()))
    if (parameters.getAll(name).length > 1) throw foreign(`has ${name} twice`);
  if (parameters.get('state') !== expected.state) throw foreign('does not belong to this sign-in (state)');
  // Another server could pass off its own response as the gateway's (RFC 9207).
  if (parameters.get('iss') !== expected.issuer) throw foreign('is not from the gateway (iss)');
  const error = parameters.get('error');
  if (error === 'access_denied')
    throw new ClientError('SIGN_IN_FAILED', 'the sign-in was refused in the browser');
  if (error !== null) throw new ClientError('SIGN_IN_FAILED', `the gateway refused the sign-in: ${error}`);
  const code = parameters.get('code');
  if (code === null || code === '') throw foreign('has no code');
  return code;
}

function foreign(what: string): ClientError {
  return new ClientError('SIGN_IN_FAILED', `the response from the browser ${what}`);
}

function random(): string {
  return randomBytes(32).toString('base64url');
}
