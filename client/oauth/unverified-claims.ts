import type { Secret } from '../../protocol/secret.ts';

/** Claims of a token that were not verified: for display, and to avoid requests that must fail. */
export interface Claims {
  readonly subject?: string;
  readonly issuer?: string;
  readonly expiresAt?: Date;
}

/** Reads a JWT without verifying it; undefined for a token of another kind. */
export function readClaims(token: Secret): Claims | undefined {
  const parts = token.reveal().split('.');
  if (parts.length !== 3) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(parts[1]!, 'base64url').toString());
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { sub, iss, exp } = value as Record<string, unknown>;
  const expiresAt = typeof exp === 'number' ? new Date(exp * 1000) : undefined;
  return {
    ...(typeof sub === 'string' ? { subject: sub } : {}),
    ...(typeof iss === 'string' ? { issuer: iss } : {}),
    // A number beyond the calendar is not a time.
    ...(expiresAt !== undefined && !Number.isNaN(expiresAt.getTime()) ? { expiresAt } : {}),
  };
}
