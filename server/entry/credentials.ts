import { Secret } from '../../protocol/secret.ts';
import type { Credentials } from '../auth/authenticator.ts';

/**
 * Reads an `Authorization` or `Proxy-Authorization` field (RFC 9110 §11.4): `Bearer` with the token, or `Basic` with
 * any user name and the token as the password, for clients that know nothing else.
 */
export function readCredentials(field: string | undefined): Credentials {
  if (field === undefined) return { kind: 'none' };
  const [, scheme, value] = /^([A-Za-z]+) +([\x21-\x7e]+)$/.exec(field) ?? [];
  if (value !== undefined && scheme?.toLowerCase() === 'bearer')
    return { kind: 'token', token: new Secret(value) };
  if (value !== undefined && scheme?.toLowerCase() === 'basic') return readBasic(value);
  return { kind: 'unreadable' };
}

function readBasic(value: string): Credentials {
  const pair = Buffer.from(value, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  if (colon < 0 || colon === pair.length - 1) return { kind: 'unreadable' };
  return { kind: 'token', token: new Secret(pair.slice(colon + 1)) };
}
