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

const endMessages: Readonly<Record<EndReason, string>> = {
  REVOKED: 'the sign-in was revoked',
  POLICY: "the gateway's new configuration no longer allows this session",
  KILLED: 'the operator ended this session',
  SHED: 'the gateway had no room to keep the session while its connection was lost',
  DISPLACED: 'the session waited for its connection, and had to make room for newer ones',
  SESSION_EXPIRED: 'the session has reached its maximum duration',
  GATEWAY_STOPPED: 'the gateway has stopped',
};

/** The error for a reason, with a message for people. */
export function tunnelEnded(reason: EndReason): TunnelEnded {
  return new TunnelEnded(reason, endMessages[reason]);
}
