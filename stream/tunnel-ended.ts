import { endReasons } from '../protocol/end-reason.ts';
import type { EndReason } from '../protocol/end-reason.ts';
import { TunnelError } from '../protocol/errors.ts';

/** Why a gateway has ended a tunnel: a stream that is destroyed with it tells the peer, where its protocol has room. */
export class TunnelEnded extends TunnelError {
  readonly reason: EndReason;

  constructor(reason: EndReason, message: string) {
    super(endReasons[reason].error, message);
    this.reason = reason;
  }
}

const endWords: Readonly<Record<EndReason, string>> = {
  REVOKED: 'the sign-in was ended',
  KILLED: 'the operator has ended this session',
  SHED: 'the gateway had no room to keep the session while its connection was gone',
  SESSION_EXPIRED: 'the longest time that a session may last is over',
  GATEWAY_STOPPED: 'the gateway has stopped',
};

/** The error for a reason, with words for people. */
export function tunnelEnded(reason: EndReason): TunnelEnded {
  return new TunnelEnded(reason, endWords[reason]);
}
