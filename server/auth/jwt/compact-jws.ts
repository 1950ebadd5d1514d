import { Buffer } from 'node:buffer';
import { parseJsonObject } from './strict-json.ts';
import type { JsonObject } from './strict-json.ts';

/** The parts of a signed token (JWS compact form), read and not yet verified. */
export interface CompactToken {
  readonly header: JsonObject;
  readonly payload: JsonObject;
}

const maxTokenBytes = 8192;

/**
 * Reads a token that is spelled in the one canonical way. Throws `SyntaxError` otherwise: padding, white space and stray
 * bits would give one token many spellings, and what is denied or logged by its text could come again in another.
 */
export function decodeCompactJws(token: string): CompactToken {
  if (token.length > maxTokenBytes) throw new SyntaxError(`longer than ${maxTokenBytes} bytes`);
  const parts = token.split('.');
  if (parts.length !== 3) throw new SyntaxError(`it has ${parts.length} of the 3 parts of a token`);
  const [header, payload] = parts.map(decodePart);
  return { header: parseJsonObject(decodeText(header!)), payload: parseJsonObject(decodeText(payload!)) };
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
