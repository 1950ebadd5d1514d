import { errors, jwtVerify } from 'jose';
import type { CryptoKey, JWTVerifyOptions } from 'jose';
import type { SignatureAlgorithm } from '../../config/config.ts';
import { InvalidTokenError } from './claims.ts';
import type { JsonObject } from './strict-json.ts';

/** What the signature and the registered claims of a token must be (RFC 7519 §4.1). */
export interface JwtRequirements {
  readonly algorithm: SignatureAlgorithm;
  /** Compared with `iss` byte by byte. */
  readonly issuer: string;
  /** One of `aud`. */
  readonly audience: string;
  /** Compared with `typ` as media types are (RFC 7515 §4.1.9); absent: not compared. */
  readonly typ?: string | undefined;
  /** The longest time from `iat` to `exp`, in milliseconds. */
  readonly maxLifetimeMs: number;
  /** The wall clock, in milliseconds since 1970. */
  readonly nowMs: number;
}

/** Clocks differ: the tolerance for `exp`, `nbf` and `iat`, in seconds. */
const skewSeconds = 30;

/**
 * Verifies a token in compact form with jose, and returns its claims. The caller has read it strictly before: jose takes the
 * last of two members of one name, and does not look at `enc` or `zip`. Without `kid` several keys can be candidates.
 * Rejects with `InvalidTokenError`.
 */
export async function verifyJwt(
  token: string,
  keys: readonly CryptoKey[],
  requirements: JwtRequirements,
): Promise<JsonObject> {
  const options = verifyOptions(requirements);
  let refusal = new InvalidTokenError('kid: no such key');
  for (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      if (error instanceof errors.JWTClaimValidationFailed || error instanceof errors.JWTExpired)
        throw claimRefusal(error);
      refusal = keyRefusal(error, requirements.algorithm);
    }
  }
  throw refusal;
}

function verifyOptions({
  algorithm,
  issuer,
  audience,
  typ,
  maxLifetimeMs,
  nowMs,
}: JwtRequirements): JWTVerifyOptions {
  return {
    algorithms: [algorithm],
    issuer,
    audience,
    ...(typ !== undefined && { typ }),
    requiredClaims: ['exp'],
    clockTolerance: skewSeconds,
    // With it jose demands `iat`, and refuses one in the future.
    maxTokenAge: maxLifetimeMs / 1000,
    currentDate: new Date(nowMs),
  };
}

const failedChecks: Readonly<Record<string, string>> = {
  iss: 'another issuer',
  aud: 'another audience',
  typ: 'a token of another kind',
  exp: 'expired',
  iat: 'in the future, or longer ago than the issuer may',
  nbf: 'not valid yet',
};

/** jose's own error holds all claims of the token, and is left behind here: what is logged holds none of them. */
function claimRefusal({ claim, reason }: errors.JWTClaimValidationFailed | errors.JWTExpired): InvalidTokenError {
  const why = reason === 'check_failed' ? failedChecks[claim] : undefined;
  return new InvalidTokenError(`${claim}: ${why ?? 'missing, or of a wrong type'}`);
}

function keyRefusal(cause: unknown, algorithm: SignatureAlgorithm): InvalidTokenError {
  return cause instanceof errors.JWSSignatureVerificationFailed
    ? new InvalidTokenError('the signature is wrong')
    : new InvalidTokenError(`the key is not one of ${algorithm}`, { cause });
}
