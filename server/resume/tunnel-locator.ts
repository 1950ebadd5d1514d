import { TunnelError } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { ResumeOffer } from '../session/offer.ts';

/** The owner of a tunnel: the same person or service, with the same key where the token is bound to one. */
export type TunnelOwner = Pick<Principal, 'issuer' | 'subject' | 'keyThumbprint'>;

/** A tunnel that its client can resume, in this process or in another one of the gateway. */
export interface TunnelHandle {
  /** Its session. */
  readonly sessionId: string;
  /** The target, as the client requested it when it opened the tunnel. */
  readonly target: Target;
  /** The address that was dialled for it. */
  readonly address: Target;
  /** Ends it, because its owner is no longer allowed to reach the target. */
  revoke(): void;
  /**
   * Checks the offer's position and proof. Resolves to the function that accepts it and resumes; rejects with the refusal,
   * before anything has been sent to the client.
   */
  prepare(offer: ResumeOffer): Promise<() => Promise<void>>;
}

/** Finds such tunnels. */
export interface TunnelLocator {
  /** Rejects with `TUNNEL_GONE` when there is none or it has another owner, or with the reason for which it was ended. */
  find(sid: string, owner: TunnelOwner): Promise<TunnelHandle>;
}

/** The refusal for a tunnel that does not exist, or is not the client's own. */
export function tunnelNotFound(): TunnelError {
  return new TunnelError('TUNNEL_GONE', 'the gateway no longer has this session');
}
