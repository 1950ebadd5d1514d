import type { Revocations } from '../auth/revocations.ts';
import type { Sessions } from '../session/sessions.ts';
import { matches } from './control.ts';
import type { KillRequest } from './control.ts';

/** Ends the sessions of this process that match, for the operator. Returns how many. */
export function endSessions(sessions: Pick<Sessions, 'endWhere'>, request: KillRequest): number {
  return sessions.endWhere((record) => matches(request, record), 'KILLED', request.reason);
}

/**
 * Ends them, and revokes the credentials they could come back with: the token, the key, and where the request says
 * so everything of the subject. Resolves to how many have ended.
 */
export async function killSessions(
  sessions: Pick<Sessions, 'endWhere'>,
  revocations: Pick<Revocations, 'revoke'>,
  request: KillRequest,
): Promise<number> {
  const { tokenId, keyThumbprint, subject, issuer, revoke, reason } = request;
  const ended = endSessions(sessions, request);
  if (tokenId !== undefined) await revocations.revoke({ kind: 'token', tokenId }, reason);
  if (keyThumbprint !== undefined) await revocations.revoke({ kind: 'key', keyThumbprint }, reason);
  if (revoke && subject !== undefined) {
    const from = issuer === undefined ? {} : { issuer };
    await revocations.revoke({ kind: 'subject', subject, ...from, issuedBefore: Date.now() }, reason);
  }
  return ended;
}
