import { createHmac } from 'node:crypto';
import { equalInConstantTime } from '../../base/constant-time.ts';
import type { ResumeOffer } from '../session/offer.ts';

/** The text of the secret is the key, so that clients need not decode it. */
export function macKey(secret: string): Buffer {
  return Buffer.from(secret, 'latin1');
}

/** Whether a request to resume knows the tunnel's secret: docs/entry/relay.md, "Coming back". */
export function isProven(
  secret: Buffer,
  { sid, received, proof }: Required<Pick<ResumeOffer, 'sid' | 'received' | 'proof'>>,
): boolean {
  const expected = createHmac('sha256', secret)
    .update(`postern-rejoin\n${sid}\n${proof.count}\n${received}`)
    .digest();
  return equalInConstantTime(Buffer.from(proof.mac, 'base64url'), expected);
}
