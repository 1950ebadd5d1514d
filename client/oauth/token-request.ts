import { Secret } from '../../protocol/secret.ts';
import { requestJson, readObject, unexpected } from '../http/json-request.ts';
import type { Egress } from '../egress/egress.ts';
import { challengeOf } from '../http/refusal.ts';
import { clockOffset } from './clock-offset.ts';
import { createDpopProof } from './dpop.ts';
import type { ProofKey } from './dpop.ts';

/** With less than this left, an access token is renewed before it is used. */
const renewalMs = 60_000;

/** In seconds; what is longer is no answer, and no time that could be written down. */
const maxLifetimeMs = 10 * 365 * 86_400;

/** What is needed to ask for tokens. */
export interface TokenRequest {
  readonly endpoint: URL;
  readonly clientId: string;
  readonly key: ProofKey;
  readonly clockOffsetMs: number;
}

/** Tokens bound to the key, or the refusal in the words of OAuth. */
export type TokenAnswer = IssuedTokens | TokenEndpointError;

export interface IssuedTokens {
  readonly kind: 'issued';
  readonly accessToken: Secret;
  readonly refreshToken?: Secret;
  /** By the clock here. */
  readonly renewAt: number;
  readonly expiresAt: number;
  readonly clockOffsetMs: number;
}

export interface TokenEndpointError {
  readonly kind: 'refused';
  /** Like `invalid_grant`. */
  readonly error: string;
  readonly description?: string;
}

/**
 * Asks the token endpoint, with a proof, and once more with the nonce it may ask for. Throws what `ask` throws, and
 * `HTTP_UNEXPECTED` for an answer that is neither tokens nor a refusal, or tokens that are not bound.
 */
export async function requestTokens(
  request: TokenRequest,
  form: Readonly<Record<string, string>>,
  egressRequest: { readonly egress: Egress; readonly signal: AbortSignal },
): Promise<TokenAnswer> {
  const first = await askOnce(request, form, egressRequest);
  if (
    first.answer.kind === 'issued' ||
    first.nonce === undefined ||
    first.answer.error !== 'use_dpop_nonce'
  ) {
    return first.answer;
  }
  return (await askOnce(request, form, { ...egressRequest, nonce: first.nonce })).answer;
}

async function askOnce(
  { endpoint, clientId, key, clockOffsetMs }: TokenRequest,
  form: Readonly<Record<string, string>>,
  {
    egress,
    signal,
    nonce,
  }: { readonly egress: Egress; readonly signal: AbortSignal; readonly nonce?: string },
): Promise<{ readonly answer: TokenAnswer; readonly nonce?: string }> {
  const proof = createDpopProof(key, {
    method: 'POST',
    url: endpoint,
    now: Date.now() + clockOffsetMs,
    ...(nonce === undefined ? {} : { nonce }),
  });
  const reply = await requestJson(
    egress,
    { method: 'POST', url: endpoint, form: { ...form, client_id: clientId }, headers: { DPoP: proof } },
    signal,
  );
  const challenge = challengeOf(reply.answer.response);
  const body = await readObject(reply);
  const asked = challenge.nonce === undefined ? {} : { nonce: challenge.nonce };
  if (reply.answer.status === 200) {
    const issued = readTokens(body, clockOffset(challenge));
    if (issued !== undefined) return { answer: issued };
    throw unexpected(reply, 'issued no tokens that are bound to our key');
  }
  const { error, error_description: description } = body;
  if (reply.answer.status >= 500 || typeof error !== 'string')
    throw unexpected(reply, `answered ${reply.answer.status} to a request for tokens`);
  return {
    answer: { kind: 'refused', error, ...(typeof description === 'string' ? { description } : {}) },
    ...asked,
  };
}

function readTokens(
  body: Readonly<Record<string, unknown>>,
  clockOffsetMs: number,
): IssuedTokens | undefined {
  const { access_token: access, refresh_token: refresh, token_type: type, expires_in: life } = body;
  // Without this a token would work without the key, which is what it must not.
  if (typeof type !== 'string' || type.toLowerCase() !== 'dpop') return undefined;
  if (!isToken(access) || typeof life !== 'number' || !(life > 0 && life <= maxLifetimeMs)) return undefined;
  if (refresh !== undefined && !isToken(refresh)) return undefined;
  const lifeMs = life * 1000;
  const expiresAt = Date.now() + lifeMs;
  return {
    kind: 'issued',
    accessToken: new Secret(access),
    ...(refresh === undefined ? {} : { refreshToken: new Secret(refresh) }),
    renewAt: expiresAt - Math.min(renewalMs, lifeMs / 2),
    expiresAt,
    clockOffsetMs,
  };
}

function isToken(value: unknown): value is string {
  return typeof value === 'string' && value.length <= 8192 && /^[A-Za-z0-9\-._~+/]+=*$/.test(value);
}
