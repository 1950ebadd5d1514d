import { compactVerify, errors, jwtVerify } from 'jose';
import type { CryptoKey, JWTVerifyOptions } from 'jose';
import type { SignatureAlgorithm } from '../../config/config.ts';
import { InvalidTokenError } from './claims.ts';
import type { JsonObject } from './strict-json.ts';

/** What the signature, the type and the registered claims of a token must be (RFC 7519 §4.1). */
export interface JwtRequirements {
  readonly algorithm: SignatureAlgorithm;
  /** Compared with `iss` byte by byte. */
  readonly issuer: string;
  /** Must be one of `aud`. */
  readonly audience: string;
  /** Compared with `typ` as a media type (RFC 7515 §4.1.9); undefined: not compared. */
  readonly typ?: string | undefined;
  /** The longest time since `iat`, in milliseconds. */
  readonly maxAgeMs: number;
  /** The wall clock, in milliseconds since 1970. */
  readonly nowMs: number;
}

/** The tolerance for differing clocks, for `exp`, `nbf` and `iat`. */
export const skewMs = 30_000;

/**
 * Verifies a token in compact form by jose, and returns its claims. The caller has read the token with `decodeCompactJws`
 * before: of two members of one name jose takes the last. `keys` are candidates (a token without `kid` can have several); the
 * first that verifies the signature counts. Rejects with `InvalidTokenError`.
 */
export async function verifyJwt(
  token: string,
  keys: readonly CryptoKey[],
  requirements: JwtRequirements,
): Promise<JsonObject> {
  const options = verifyOptions(requirements);
  return byFirstKey(
    keys,
    requirements.algorithm,
    async (key) => (await jwtVerify(token, key, options)).payload,
  );
}

/**
 * Verifies the signature of a token in compact form, and nothing else: for tokens whose claims follow other rules. `keys`
 * are candidates. Rejects with `InvalidTokenError`.
 */
export async function verifySignature(
  token: string,
  keys: readonly CryptoKey[],
  algorithm: SignatureAlgorithm,
): Promise<void> {
  await byFirstKey(keys, algorithm, (key) => compactVerify(token, key, { algorithms: [algorithm] }));
}

/** What `verify` resolves to with the first key that it accepts. Rejects with `InvalidTokenError`. */
async function byFirstKey<T>(
  keys: readonly CryptoKey[],
  algorithm: SignatureAlgorithm,
  verify: (key: CryptoKey) => Promise<T>,
): Promise<T> {
  let refusal = new InvalidTokenError('kid: no such key');
  for (const key of keys) {
    try {
      return await verify(key);
    } catch (error) {
      if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired)
        throw claimRefusal(error);
      refusal = keyRefusal(error, algorithm);
    }
  }
  throw refusal;
}

function verifyOptions(requirements: JwtRequirements): JWTVerifyOptions {
  const { algorithm, issuer, audience, typ, maxAgeMs, nowMs } = requirements;
  return {
    algorithms: [algorithm],
    issuer,
    audience,
    ...(typ !== undefined && { typ }),
    requiredClaims: ['exp'],
    clockTolerance: skewMs / 1000,
    // With this option jose also requires `iat`, and refuses one in the future.
    maxTokenAge: maxAgeMs / 1000,
    currentDate: new Date(nowMs),
  };
}

const failedChecks: Readonly<Record<string, string>> = {
  iss: 'another issuer',
  aud: 'another audience',
  typ: 'a token of another kind',
  exp: 'expired',
  iat: 'in the future, or longer ago than the issuer is allowed',
  nbf: 'not valid yet',
};

type ClaimError = errors.JWTClaimValidationFailed | errors.JWTExpired;

/** jose's own error carries all claims of the token, so it does not become the `cause`: the log must contain none of them. */
function claimRefusal({ claim, reason }: ClaimError): InvalidTokenError {
  const why = reason === 'check_failed' ? failedChecks[claim] : undefined;
  return new InvalidTokenError(`${claim}: ${why ?? 'missing, or of a wrong type'}`);
}

function keyRefusal(cause: unknown, algorithm: SignatureAlgorithm): InvalidTokenError {
  return cause instanceof errors.JWSSignatureVerificationFailed
    ? new InvalidTokenError('the signature is wrong')
    : new InvalidTokenError(`the key is not one of ${algorithm}`, { cause });
}
