import { TunnelError } from '../../../protocol/errors.ts';
import type { SignatureAlgorithm } from '../../config/config.ts';
import { unrecognized } from '../authenticator-chain.ts';
import { tokenRefusal } from '../token-refusal.ts';
import type { Authenticator, Challenge, Principal, Proof } from '../authenticator.ts';
import { proofAlgorithms } from '../dpop/dpop.ts';
import type { ProofChecker } from '../dpop/dpop.ts';
import { InvalidTokenError, readConfirmationThumbprint, readIdentity, readLifetime } from './claims.ts';
import type { ClaimsPolicy } from './claims.ts';
import { decodeCompactJws, findUnsupportedParameter } from './compact-jws.ts';
import type { KeySource } from './jwks-cache.ts';
import { ownProperty } from './strict-json.ts';
import type { JsonObject } from './strict-json.ts';
import { verifyJwt } from './verify-jwt.ts';

/** An issuer whose tokens are trusted, with the keys that verify them. */
export interface TrustedIssuer extends ClaimsPolicy {
  /** Compared with the token's `iss` byte by byte. */
  readonly issuer: string;
  /** Must be one of the token's `aud`. */
  readonly audience: string;
  readonly algorithms: readonly SignatureAlgorithm[];
  /** The `typ` that its tokens must have; undefined: none, `JWT` or `at+jwt`. */
  readonly typ?: string;
  /** Its tokens are issued by this gateway. */
  readonly isOwn?: true;
  readonly keys: KeySource;
}

export interface JwtOptions {
  /** Checks the proofs of bound tokens; absent: bound tokens are refused. */
  readonly proofs?: ProofChecker;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

const maxKeyIdLength = 128;

/** Tokens, tokens with proof, and tokens as the password of clients that can send nothing else. */
const challenge: Challenge = {
  origin: ['Bearer realm="postern"', `DPoP algs="${proofAlgorithms.join(' ')}"`],
  proxy: ['Bearer realm="postern"', 'Basic realm="postern", charset="UTF-8"'],
};

/**
 * Accepts tokens signed by one of the issuers (RFC 7519, with the checks of RFC 8725). Each token is read strictly here, then
 * verified by jose. To the caller all refused tokens look the same; the error's `cause` says what was wrong.
 */
export function jwtAuthenticator(
  issuers: readonly TrustedIssuer[],
  { now = Date.now, proofs }: JwtOptions = {},
): Authenticator {
  const byIssuer = new Map(issuers.map((issuer) => [issuer.issuer, issuer]));
  if (byIssuer.size !== issuers.length) throw new TypeError('an issuer is listed twice');

  async function verify(text: string, proof: Proof | undefined): Promise<Principal> {
    const { header, payload } = decodeCompactJws(text);
    const trusted = selectIssuer(payload, byIssuer);
    const { issuer, audience, typ, maxLifetimeMs } = trusted;
    const hint = readHeader(header, trusted);
    const keys = await trusted.keys.find(hint);
    const claims = await verifyJwt(text, keys, {
      algorithm: hint.alg,
      issuer,
      audience,
      typ,
      maxAgeMs: maxLifetimeMs,
      nowMs: now(),
    });
    const lifetime = readLifetime(claims, trusted);
    const identity = readIdentity(claims, trusted.groupsClaim);
    const keyThumbprint = readConfirmationThumbprint(claims);
    await checkBinding(text, keyThumbprint, proof);
    return {
      issuer,
      ...identity,
      ...(keyThumbprint !== undefined && { keyThumbprint }),
      ...lifetime,
      ...(trusted.isOwn && { ownClock: true }),
    };
  }

  /** A bound token without its proof can be a stolen one; a proof with a token that is not bound is a client's mistake. */
  async function checkBinding(token: string, keyThumbprint: string | undefined, proof: Proof | undefined) {
    if (keyThumbprint === undefined) {
      if (proof) throw new InvalidTokenError('DPoP: the token is not bound to a key');
      return;
    }
    if (!proof) throw new InvalidTokenError('DPoP: the token is bound to a key, and there is no proof');
    if (!proofs) throw new InvalidTokenError('DPoP: proofs are not accepted here');
    await proofs.check(proof, { token, keyThumbprint });
  }

  return {
    kinds: ['token'],
    challenge,
    async authenticate(credentials) {
      const credential = credentials.find((each) => each.kind === 'token');
      if (credential === undefined) throw unrecognized(credentials);
      try {
        return await verify(credential.token.reveal(), credential.proof);
      } catch (error) {
        throw isGatewayError(error) ? error : tokenRefusal(error);
      }
    },
  };
}

/** Whether the gateway could not complete its checks; as far as they went, nothing was wrong with the token. */
function isGatewayError(error: unknown): boolean {
  return error instanceof TunnelError && error.facts.side === 'gateway';
}

function selectIssuer(payload: JsonObject, issuers: ReadonlyMap<string, TrustedIssuer>): TrustedIssuer {
  const name = ownProperty(payload, 'iss');
  const issuer = typeof name === 'string' ? issuers.get(name) : undefined;
  if (!issuer) throw new InvalidTokenError('iss: not a trusted issuer');
  return issuer;
}

interface KeyHint {
  readonly alg: SignatureAlgorithm;
  readonly kid?: string;
}

/** Only `alg`, `kid` and `typ` count. Keys that the token brings along (`jwk`, `jku`, `x5u`, `x5c`) are never looked at. */
function readHeader(header: JsonObject, issuer: TrustedIssuer): KeyHint {
  const alg = issuer.algorithms.find((each) => each === ownProperty(header, 'alg'));
  if (!alg) throw new InvalidTokenError('alg: not an algorithm of the issuer');
  const unsupported = findUnsupportedParameter(header);
  if (unsupported !== undefined) throw new InvalidTokenError(`${unsupported}: not supported`);
  if (issuer.typ === undefined) checkUsualType(ownProperty(header, 'typ'));
  const kid = ownProperty(header, 'kid');
  if (kid === undefined) return { alg };
  if (typeof kid !== 'string' || kid.length > maxKeyIdLength)
    throw new InvalidTokenError('kid: not text, or too long');
  return { alg, kid };
}

/** Keeps tokens of other kinds out (RFC 8725 §3.11): a logout token or a DPoP proof is signed by the same issuer. */
function checkUsualType(typ: unknown): void {
  if (typ === undefined) return;
  if (typeof typ !== 'string') throw new InvalidTokenError('typ: not text');
  // RFC 7515 §4.1.9: a media type, whose `application/` can be left out; case does not count.
  if (!['jwt', 'at+jwt'].includes(typ.toLowerCase().replace(/^application\//, '')))
    throw new InvalidTokenError('typ: a token of another kind');
}
