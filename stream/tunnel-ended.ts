import { endReasons } from '../protocol/end-reason.ts';
import type { EndReason } from '../protocol/end-reason.ts';
import { TunnelError } from '../protocol/errors.ts';

/** Reason for which a gateway ends a tunnel: a stream destroyed with it tells the peer, where its protocol can express it. */
export class TunnelEnded extends TunnelError {
  readonly reason: EndReason;

  constructor(reason: EndReason, message: string) {
    super(endReasons[reason].error, message);
    this.reason = reason;
  }
}

/** A Close frame has 123 bytes for its reason (RFC 6455 section 5.5.1). */
const maxCloseReasonBytes = 123;

/**
 * The text that goes with a close code or in a capsule: the reason, and what there is to say about this very end. Peers of
 * every version read the code, or the reason that the text begins with.
 */
export function endText({ reason, message }: TunnelEnded): string {
  if (message === endMessages[reason]) return reason;
  let text = `${reason}: ${message}`;
  while (Buffer.byteLength(text) > maxCloseReasonBytes) text = `${Array.from(text).slice(0, -2).join('')}…`;
  return text;
}

/** The error for a reason that came from a gateway, with its text: one line of its own words, if there are any. */
export function receivedEnd(reason: EndReason, text: string): TunnelEnded {
  const words = text.startsWith(`${reason}: `) ? text.slice(reason.length + 2) : '';
  return words === '' || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(words)
    ? tunnelEnded(reason)
    : new TunnelEnded(reason, words);
}

const endMessages: Readonly<Record<EndReason, string>> = {
  REVOKED: 'the sign-in was revoked',
  POLICY: "the gateway's new configuration no longer allows this session",
  KILLED: 'an operator ended this session',
  SHED: 'the gateway had no room to keep the session while its connection was lost',
  DISPLACED: 'the session waited for its connection, and had to make room for newer ones',
  SESSION_EXPIRED: 'the session has reached its maximum duration',
  GATEWAY_STOPPED: 'the gateway has stopped',
};

/** The error for a reason, with a message for people. */
export function tunnelEnded(reason: EndReason): TunnelEnded {
  return new TunnelEnded(reason, endMessages[reason]);
}
