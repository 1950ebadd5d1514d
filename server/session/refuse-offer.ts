import type { EndReason } from '../../protocol/end-reason.ts';
import { TunnelError, toTunnelError } from '../../protocol/errors.ts';
import type { Challenge } from '../auth/authenticator.ts';
import type { MinimumDelay } from '../auth/minimum-delay.ts';
import { revokedError } from '../auth/token-refusal.ts';
import { endForClient } from './end-words.ts';
import type { PendingRequest } from './offer.ts';
import type { Session } from './sessions.ts';

export interface RefusalContext {
  readonly session: Session;
  readonly minimumDelay: MinimumDelay;
  readonly challenge: Challenge;
}

/**
 * Refuses an offer because of `error` and ends its session. What ended the session early (a revocation, the operator, the
 * stop of the gateway) comes before `error`; a client that has left gets no answer. Never rejects.
 */
export async function refuseOffer(
  offer: PendingRequest,
  error: unknown,
  { session, minimumDelay, challenge }: RefusalContext,
): Promise<void> {
  if (offer.signal.aborted) return session.end('CLIENT_GONE');
  const refusal = session.signal.aborted
    ? endedBeforeAnswer(session.signal.reason as EndReason, session.why)
    : toTunnelError(error);
  if (needsMinimumDelay(refusal)) await minimumDelay.over;
  offer.reject(refusal, challenge);
  session.end(refusal.code, { reason: reasonOf(refusal) });
}

/** The message of an error with that of its cause, for the log and the audit. */
export function reasonOf(error: TunnelError): string {
  const { cause } = error;
  return cause instanceof Error ? `${error.message}: ${cause.message}` : error.message;
}

/** The time of the answer must not leak what was wrong with a token, nor whether a denied target is one of the gateway's. */
function needsMinimumDelay({ code, facts }: TunnelError): boolean {
  return facts.status === 401 || code === 'TARGET_DENIED';
}

/** The refusal of an offer whose session the gateway has ended before the answer. */
function endedBeforeAnswer(reason: EndReason, why: string | undefined): TunnelError {
  if (reason === 'REVOKED') return revokedError();
  if (reason === 'KILLED') return new TunnelError('TUNNEL_KILLED', endForClient(reason, why).message);
  if (reason === 'POLICY')
    return new TunnelError('TARGET_DENIED', 'you are not allowed to reach this target');
  return drainingError();
}

/** The refusal of new tunnels by a gateway that is stopping. */
export function drainingError(): TunnelError {
  return new TunnelError('DRAINING', 'the gateway is stopping; try again');
}
