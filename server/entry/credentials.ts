import type { IncomingMessage } from 'node:http';
import { Secret } from '../../protocol/secret.ts';
import type { Credentials, Proof } from '../auth/authenticator.ts';

/** The parts of a request that a proof is about. */
export type Proven = Pick<IncomingMessage, 'method' | 'url' | 'headers'>;

/**
 * Reads an `Authorization` or `Proxy-Authorization` field (RFC 9110 §11.4): `Bearer` with the token or ticket, `Basic`
 * with any user name and the token or ticket as the password, for clients that know nothing else.
 */
export function readCredentials(field: string | undefined): Credentials {
  if (field === undefined) return { kind: 'none' };
  const { scheme, value } = split(field);
  if (scheme === 'bearer') return { kind: 'token', token: new Secret(value) };
  if (scheme === 'basic') return readBasic(value);
  return { kind: 'unreadable' };
}

/**
 * Reads `Authorization` of a request, which may be `DPoP` too, with its proof in the field `DPoP` (RFC 9449 §7.1).
 * A proof beside any other scheme is not readable: whoever made it meant to prove something.
 */
export function readProvenCredentials({ method = '', url = '', headers }: Proven): Credentials {
  const { authorization, dpop } = headers;
  if (dpop === undefined) return readCredentials(authorization);
  const { scheme, value } = split(authorization ?? '');
  if (scheme !== 'dpop' || typeof dpop !== 'string' || dpop === '') return { kind: 'unreadable' };
  const [path = ''] = url.split('?');
  const proof: Proof = { jwt: new Secret(dpop), method, path };
  return { kind: 'token', token: new Secret(value), proof };
}

/** The scheme in lower case and what follows it; both empty when the field is not of that form. */
function split(field: string): { readonly scheme: string; readonly value: string } {
  const [, scheme = '', value = ''] = /^([A-Za-z]+) +([\x21-\x7e]+)$/.exec(field) ?? [];
  return { scheme: scheme.toLowerCase(), value };
}

function readBasic(value: string): Credentials {
  const pair = Buffer.from(value, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  if (colon < 0 || colon === pair.length - 1) return { kind: 'unreadable' };
  return { kind: 'token', token: new Secret(pair.slice(colon + 1)) };
}
