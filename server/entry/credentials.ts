import type { IncomingMessage } from 'node:http';
import { Secret } from '../../protocol/secret.ts';
import type { OfferCredential, Proof } from '../auth/authenticator.ts';
import { isTicketFormat } from '../auth/tickets.ts';

/** The parts of a request that a proof is about. */
export type ProvenRequest = Pick<IncomingMessage, 'method' | 'url' | 'headers'>;

const unreadable: readonly OfferCredential[] = [{ kind: 'unreadable' }];

/**
 * Reads an `Authorization` or `Proxy-Authorization` field (RFC 9110 §11.4): `Bearer` with the token or ticket, `Basic`
 * with any user name and the token or ticket as the password, for clients that support nothing else. Empty when there is
 * no field.
 */
export function readCredentials(field: string | undefined): readonly OfferCredential[] {
  if (field === undefined) return [];
  const { scheme, value } = split(field);
  if (scheme === 'bearer') return [bearer(value)];
  if (scheme === 'basic') return readBasic(value);
  return unreadable;
}

/**
 * Reads the `Authorization` field of a request, which can also be `DPoP`, with its proof in the `DPoP` field
 * (RFC 9449 §7.1). A proof beside any other scheme is unreadable: the client that made it meant to prove something.
 */
export function readProvenCredentials({
  method = '',
  url = '',
  headers,
}: ProvenRequest): readonly OfferCredential[] {
  const { authorization, dpop } = headers;
  if (dpop === undefined) return readCredentials(authorization);
  const { scheme, value } = split(authorization ?? '');
  if (scheme !== 'dpop' || typeof dpop !== 'string' || dpop === '') return unreadable;
  const [path = ''] = url.split('?');
  return [bearer(value, { jwt: new Secret(dpop), method, path })];
}

/** A ticket or a token, which differ by their form alone. */
function bearer(value: string, proof?: Proof): OfferCredential {
  const secret = new Secret(value);
  const more = proof && { proof };
  return isTicketFormat(value)
    ? { kind: 'ticket', ticket: secret, ...more }
    : { kind: 'token', token: secret, ...more };
}

/** The scheme in lower case and the value that follows it; both empty when the field is not of that form. */
function split(field: string): { readonly scheme: string; readonly value: string } {
  const [, scheme = '', value = ''] = /^([A-Za-z]+) +([\x21-\x7e]+)$/.exec(field) ?? [];
  return { scheme: scheme.toLowerCase(), value };
}

function readBasic(value: string): readonly OfferCredential[] {
  const pair = Buffer.from(value, 'base64').toString('utf8');
  const colon = pair.indexOf(':');
  if (colon < 0 || colon === pair.length - 1) return unreadable;
  return [bearer(pair.slice(colon + 1))];
}
