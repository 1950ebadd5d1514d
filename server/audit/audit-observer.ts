import { TunnelError, isTunnelErrorCode } from '../../protocol/errors.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Revocation } from '../auth/revocation.ts';
import type { MadeTicket } from '../auth/tickets.ts';
import type { SessionObserver, SessionRecord } from '../session/sessions.ts';
import type { AuditFields } from './audit-chain.ts';
import type { AuditLog } from './audit-log.ts';
import { maskSecrets } from '../../protocol/secret-forms.ts';
import { redact } from '../telemetry/log.ts';
import { RefusalDigest } from '../telemetry/refusal-digest.ts';

/**
 * Records every offer: `refuse`, or `open` before the first byte can pass and `end` when it is over; in between `detach`
 * and `resume` of a tunnel that loses its connection and gets another one. Above a rate, refusals of strangers are
 * counted: one `refuse` with a `count` in a second.
 * While `required`, a tunnel whose opening cannot be written does not open: `AUDIT_UNAVAILABLE`. `instance`: the name of
 * this process, by which the next one finds out that it has ended without a word.
 */
export function auditObserver(log: AuditLog, required: () => boolean, instance?: string): SessionObserver {
  const attempted = new Set<string>();
  const digest = new RefusalDigest(({ count, client, code, since }) =>
    log.appendEventually(
      {
        time: new Date().toISOString(),
        event: 'refuse',
        count,
        since: new Date(since).toISOString(),
        client,
        cause: code,
      },
      'stranger',
    ),
  );
  log.beforeClose(() => digest.flush());
  return {
    async opening(record) {
      const written = log.append({ ...fieldsOf('open', record), instance });
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
      if (opened && !isTunnelErrorCode(record.end)) return log.appendEventually(fieldsOf('end', record));
      if (!opened && !digest.isSingle(record)) return;
      log.appendEventually(
        fieldsOf('refuse', record),
        record.principal === undefined ? 'stranger' : 'tunnel',
      );
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
