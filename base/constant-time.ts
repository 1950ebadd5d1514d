import { timingSafeEqual } from 'node:crypto';

/**
 * Whether both are the same bytes (text as UTF-8), in a time that does not depend on where they differ. Only whether
 * their lengths differ can be measured from outside.
 */
export function equalInConstantTime(one: string | Uint8Array, other: string | Uint8Array): boolean {
  const a = typeof one === 'string' ? Buffer.from(one) : one;
  const b = typeof other === 'string' ? Buffer.from(other) : other;
  return a.length === b.length && timingSafeEqual(a, b);
}
