import { Buffer } from 'node:buffer';
import { ownProperty, parseJsonObject } from './strict-json.ts';
import type { JsonObject } from './strict-json.ts';

/** The parts of a JWS in compact form (RFC 7515 §7.1), decoded and not verified. */
export interface CompactToken {
  readonly header: JsonObject;
  readonly payload: JsonObject;
}

const maxTokenBytes = 8192;

/**
 * Reads a token that is spelled in the one canonical way. Throws `SyntaxError` otherwise: padding, white space and stray
 * bits would give one token many spellings, and a token that is denied or logged by its text could return in another one.
 */
export function decodeCompactJws(token: string): CompactToken {
  if (token.length > maxTokenBytes) throw new SyntaxError(`longer than ${maxTokenBytes} bytes`);
  const parts = token.split('.');
  if (parts.length !== 3) throw new SyntaxError(`it has ${parts.length} of the 3 parts of a token`);
  const [header, payload] = parts.map(decodePart);
  return { header: parseJsonObject(decodeText(header!)), payload: parseJsonObject(decodeText(payload!)) };
}

const unsupportedParameters = ['crit', 'b64', 'enc', 'zip'];

/**
 * The first header parameter that would change what is signed or how it is read (RFC 7515 §4.1.11, RFC 7797); undefined:
 * there is none. A token that needs one is refused, whatever its value.
 */
export function findUnsupportedParameter(header: JsonObject): string | undefined {
  return unsupportedParameters.find((name) => ownProperty(header, name) !== undefined);
}

function decodePart(part: string): Buffer {
  const bytes = Buffer.from(part, 'base64url');
  if (bytes.length === 0 || bytes.toString('base64url') !== part) {
    throw new SyntaxError('not canonical base64url');
  }
  return bytes;
}

function decodeText(bytes: Buffer): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}
