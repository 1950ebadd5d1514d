import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import type { KeyObject } from 'node:crypto';

/** The issuer that the gateways here trust. */
export const issuer = 'https://id.example';

const issuerKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });

/** Its keys, as a gateway reads them. */
export function issuerKeys(): { readonly keys: readonly object[] } {
  return { keys: [{ ...issuerKey.publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'ES256' }] };
}

/** A token of that issuer for an hour, for a user of the group `dev`. */
export function token(claims: object): string {
  const now = Math.floor(Date.now() / 1000);
  const base = {
    iss: issuer,
    aud: 'postern',
    sub: 'bench',
    groups: ['dev'],
    iat: now,
    exp: now + 3600,
    jti: randomUUID(),
  };
  return jws({ alg: 'ES256', typ: 'at+jwt', kid: 'k' }, { ...base, ...claims }, issuerKey.privateKey);
}

/** What a header and a payload are when this key has signed them. */
export function jws(header: object, payload: object, key: KeyObject): string {
  const text = [header, payload]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${text}.${sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}
