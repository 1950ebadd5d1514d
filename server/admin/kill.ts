import { withDeadline } from '../../base/deadline.ts';
import { definedOnly } from '../../base/defined-only.ts';
import { skewMs } from '../auth/jwt/verify-jwt.ts';
import type { Revocation } from '../auth/revocation.ts';
import type { Revocations } from '../auth/revocations.ts';
import type { Sessions } from '../session/sessions.ts';
import { matches } from './control.ts';
import type { KillRequest, KillResult } from './control.ts';

/** The operator waits this long for the store; what is not written by then is reported as held in memory. */
const storeMs = 3000;

/**
 * Ends the sessions of this process that match, for the operator of another one, which writes down what is revoked;
 * here that holds at once. Returns how many have ended.
 */
export function endSessions(
  sessions: Pick<Sessions, 'endWhere'>,
  revocations: Pick<Revocations, 'hold' | 'now'>,
  request: KillRequest,
): number {
  const ended = sessions.endWhere((record) => matches(request, record), 'KILLED', request.reason);
  for (const revocation of revocationsOf(request, revocations.now()))
    revocations.hold(revocation, request.reason);
  return ended;
}

/**
 * Ends them, and revokes the credentials they could come back with: the token, the key, and where the request says
 * so everything of the subject. A store that cannot be written changes nothing about that; the result says so.
 */
export async function killSessions(
  sessions: Pick<Sessions, 'endWhere'>,
  revocations: Pick<Revocations, 'revoke' | 'momentOf' | 'keepMs'>,
  request: KillRequest,
): Promise<KillResult> {
  const ended = sessions.endWhere((record) => matches(request, record), 'KILLED', request.reason);
  const now = request.subject === undefined ? Date.now() : await revocations.momentOf(request.subject);
  const made = revocationsOf(request, now);
  if (made.length === 0) return { ended };
  const writing = Promise.all(made.map((each) => revocations.revoke(each, request.reason)));
  const why = await withDeadline(undefined, storeMs, () => writing).then(
    () => undefined,
    (error: Error) => (error.name === 'TimeoutError' ? 'the store does not answer' : error.message),
  );
  // It goes on by itself, and can fail after the answer.
  writing.catch(() => {});
  const [subject] = made.filter((each) => each.kind === 'subject');
  return {
    ended,
    revoked: {
      ...(subject && {
        issuedUntil: subject.issuedBefore,
        otherIssuersUntil: subject.issuedBefore + (subject.toleranceMs ?? 0),
      }),
      keptUntil: Date.now() + revocations.keepMs,
      stored: why === undefined,
      ...definedOnly({ why }),
    },
  };
}

function revocationsOf(request: KillRequest, now: number): readonly Revocation[] {
  const { tokenId, keyThumbprint, subject, issuer, revoke } = request;
  return [
    ...(tokenId === undefined ? [] : [{ kind: 'token', tokenId } as const]),
    ...(keyThumbprint === undefined ? [] : [{ kind: 'key', keyThumbprint } as const]),
    ...(revoke && subject !== undefined ? [subjectRevocation({ subject, issuer }, now)] : []),
  ];
}

/** Revokes everything of a subject until now. */
function subjectRevocation(
  { subject, issuer }: { readonly subject: string; readonly issuer: string | undefined },
  now: number,
): Revocation & { readonly kind: 'subject' } {
  return { kind: 'subject', subject, ...definedOnly({ issuer }), issuedBefore: now, toleranceMs: skewMs };
}
