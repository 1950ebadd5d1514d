import { TunnelError } from '../../../protocol/errors.ts';
import type { SignatureAlgorithm } from '../../config/config.ts';
import type { Authenticator, Principal, Proof } from '../authenticator.ts';
import { InvalidTokenError, checkClaims, readConfirmationThumbprint, readIdentity } from './claims.ts';
import type { ClaimsPolicy } from './claims.ts';
import { decodeCompactJws } from './compact-jws.ts';
import type { ProofChecker } from '../dpop/dpop.ts';
import { ownProperty } from './strict-json.ts';
import type { JsonObject } from './strict-json.ts';
import type { KeySource } from './jwks-cache.ts';
import { verifySignature } from './signature.ts';

/** An issuer whose tokens are believed, with the keys to check them. */
export interface TrustedIssuer extends ClaimsPolicy {
  /** Compared with the token's `iss` byte by byte. */
  readonly issuer: string;
  readonly algorithms: readonly SignatureAlgorithm[];
  /** The `typ` its tokens must have; undefined: none, `JWT` or `at+jwt`. */
  readonly typ?: string;
  readonly keys: KeySource;
}

export interface JwtOptions {
  /** Checks the proofs of bound tokens; absent: bound tokens are refused. */
  readonly proofs?: ProofChecker;
  /** The wall clock, in milliseconds since 1970. */
  readonly now?: () => number;
}

const maxKeyIdLength = 128;

/**
 * Believes tokens signed by one of the issuers (RFC 7519, with the checks of RFC 8725). To the caller all refused tokens
 * look the same; the error's `cause` says what was wrong.
 */
export function jwtAuthenticator(
  issuers: readonly TrustedIssuer[],
  { now = Date.now, proofs }: JwtOptions = {},
): Authenticator {
  const byIssuer = new Map(issuers.map((issuer) => [issuer.issuer, issuer]));
  if (byIssuer.size !== issuers.length) throw new TypeError('an issuer is listed twice');

  async function verify(text: string, proof: Proof | undefined): Promise<Principal> {
    const { header, payload } = decodeCompactJws(text);
    const issuer = pickIssuer(payload, byIssuer);
    const hint = readHeader(header, issuer);
    await verifyByIssuer(text, issuer, hint);
    const lifetime = checkClaims(payload, issuer, now());
    const identity = readIdentity(payload, issuer.groupsClaim);
    const keyThumbprint = readConfirmationThumbprint(payload);
    await checkBinding(text, keyThumbprint, proof);
    return {
      issuer: issuer.issuer,
      ...identity,
      ...(keyThumbprint !== undefined && { keyThumbprint }),
      ...lifetime,
    };
  }

  /** A bound token without its proof may be stolen; a proof for a token that is not bound is a mistake of somebody. */
  async function checkBinding(token: string, keyThumbprint: string | undefined, proof: Proof | undefined) {
    if (keyThumbprint === undefined) {
      if (proof) throw new InvalidTokenError('DPoP: the token is not bound to a key');
      return;
    }
    if (!proof) throw new InvalidTokenError('DPoP: the token is bound to a key, and there is no proof');
    if (!proofs) throw new InvalidTokenError('DPoP: no proofs are read here');
    await proofs.check(proof, { token, keyThumbprint });
  }

  return {
    async authenticate(credentials) {
      if (credentials.kind === 'none')
        throw new TunnelError('TOKEN_MISSING', 'a token is needed; sign in first');
      if (credentials.kind === 'unreadable')
        throw refused(new InvalidTokenError('the header cannot be read'));
      try {
        return await verify(credentials.token.reveal(), credentials.proof);
      } catch (error) {
        // With the gateway's own trouble, nothing was wrong with the token as far as it was checked.
        throw error instanceof TunnelError && error.facts.side === 'gateway' ? error : refused(error);
      }
    },
  };
}

function refused(cause: unknown): TunnelError {
  return new TunnelError('TOKEN_INVALID', 'the token was not accepted; sign in again', { cause });
}

function pickIssuer(payload: JsonObject, issuers: ReadonlyMap<string, TrustedIssuer>): TrustedIssuer {
  const name = ownProperty(payload, 'iss');
  const issuer = typeof name === 'string' ? issuers.get(name) : undefined;
  if (!issuer) throw new InvalidTokenError('iss: not one that is believed');
  return issuer;
}

interface KeyHint {
  readonly alg: SignatureAlgorithm;
  readonly kid?: string;
}

/** Only `alg`, `kid` and `typ` count. Keys that the token brings along (`jwk`, `jku`, `x5u`, `x5c`) are never looked at. */
function readHeader(header: JsonObject, issuer: TrustedIssuer): KeyHint {
  const alg = issuer.algorithms.find((each) => each === ownProperty(header, 'alg'));
  if (!alg) throw new InvalidTokenError('alg: not one of the issuer');
  for (const name of ['crit', 'b64', 'enc', 'zip']) {
    if (ownProperty(header, name) !== undefined) throw new InvalidTokenError(`${name}: not supported`);
  }
  checkType(ownProperty(header, 'typ'), issuer.typ);
  const kid = ownProperty(header, 'kid');
  if (kid === undefined) return { alg };
  if (typeof kid !== 'string' || kid.length > maxKeyIdLength)
    throw new InvalidTokenError('kid: not text, or too long');
  return { alg, kid };
}

/** Keeps tokens of other kinds out (RFC 8725 §3.11): a logout token or a DPoP proof is signed by the same issuer. */
function checkType(typ: unknown, wanted: string | undefined): void {
  if (typ !== undefined && typeof typ !== 'string') throw new InvalidTokenError('typ: not text');
  const kind = typ === undefined ? undefined : plainType(typ);
  const right =
    wanted === undefined ? [undefined, 'jwt', 'at+jwt'].includes(kind) : kind === plainType(wanted);
  if (!right) throw new InvalidTokenError('typ: a token of another kind');
}

/** RFC 7515 §4.1.9: media types, `application/` may be left out, case does not count. */
function plainType(typ: string): string {
  return typ.toLowerCase().replace(/^application\//, '');
}

async function verifyByIssuer(text: string, issuer: TrustedIssuer, hint: KeyHint): Promise<void> {
  const keys = await issuer.keys.find(hint);
  if (keys.length === 0) throw new InvalidTokenError('kid: no such key');
  let cause: unknown;
  for (const key of keys) {
    try {
      if (verifySignature(text, hint.alg, key)) return;
    } catch (error) {
      // Without `kid`, the next key may be the one.
      cause = error;
    }
  }
  throw cause ?? new InvalidTokenError('the signature is wrong');
}
