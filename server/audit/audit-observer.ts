import { TunnelError, isTunnelErrorCode } from '../../protocol/errors.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Revocation } from '../auth/revocation.ts';
import type { MadeTicket } from '../auth/tickets.ts';
import type { SessionObserver, SessionRecord } from '../session/sessions.ts';
import type { AuditFields } from './audit-file.ts';
import type { AuditLog } from './audit-log.ts';
import { maskSecrets } from '../../protocol/secret-forms.ts';
import { redact } from '../telemetry/log.ts';

/**
 * Records every offer: `refuse`, or `open` before the first byte can pass and `end` when it is over; in between `detach`
 * and `resume` of a tunnel that loses its connection and gets another one.
 * While `required`, a tunnel whose opening cannot be written does not open: `AUDIT_UNAVAILABLE`.
 */
export function auditObserver(log: AuditLog, required: () => boolean): SessionObserver {
  const attempted = new Set<string>();
  return {
    async opening(record) {
      const written = log.append(fieldsOf('open', record));
      attempted.add(record.id);
      try {
        await written;
      } catch (cause) {
        if (!required()) return;
        attempted.delete(record.id);
        throw new TunnelError('AUDIT_UNAVAILABLE', 'the gateway cannot write its audit log', { cause });
      }
    },
    detached(record, how) {
      log.appendEventually({ ...fieldsOf('detach', record), how });
    },
    resumed(record, { requestId, cause, awayMs, replayedBytes }) {
      log.appendEventually({ ...fieldsOf('resume', record), requestId, cause, awayMs, replayedBytes });
    },
    ended(record) {
      // The tunnel's own record says all there is to say.
      if (record.end === 'RESUMED') return;
      const opened = attempted.delete(record.id);
      log.appendEventually(fieldsOf(opened && !isTunnelErrorCode(record.end) ? 'end' : 'refuse', record));
    },
  };
}

/** The record of something that is no longer trusted. */
export function revocationFields({ kind, ...subject }: Revocation, reason: string): AuditFields {
  return { time: new Date().toISOString(), event: 'revoke', kind, ...subject, reason };
}

/** The record of a ticket that was made. */
export function ticketFields({ principal, client, targets, uses, expiresAt }: MadeTicket): AuditFields {
  const { issuer, subject, tokenId, signInId } = principal;
  const time = new Date().toISOString();
  const until = expiresAt.toISOString();
  return {
    time,
    event: 'ticket',
    client,
    issuer,
    subject,
    tokenId,
    signInId,
    targets: targets?.map(maskSecrets),
    uses,
    until,
  };
}

/** One flat record; fields that are not known are left out. */
function fieldsOf(
  event: 'open' | 'detach' | 'resume' | 'end' | 'refuse',
  record: SessionRecord,
): AuditFields {
  const { principal, grant, endedAt } = record;
  return {
    time: new Date(endedAt ?? Date.now()).toISOString(),
    event,
    session: record.id,
    entry: record.entry,
    client: record.remoteAddress,
    asked: redact(record.requested),
    issuer: principal?.issuer,
    subject: principal?.subject,
    tokenId: principal?.tokenId,
    signInId: principal?.signInId,
    target: grant && formatTarget(grant.target),
    rule: grant?.rule,
    address: record.dialled && formatTarget(record.dialled),
    ...(event === 'end' || event === 'refuse'
      ? { cause: record.end, reason: record.reason && redact(record.reason) }
      : {}),
    ...(event === 'end'
      ? {
          durationMs: (endedAt ?? 0) - (record.openedAt ?? endedAt ?? 0),
          bytesFromClient: record.bytesFromClient,
          bytesFromTarget: record.bytesFromTarget,
          ...(record.resumes > 0 && { resumes: record.resumes }),
        }
      : {}),
  };
}
