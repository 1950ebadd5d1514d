import { TunnelError } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { ResumeOffer } from '../session/offer.ts';

/** Whose a tunnel is: the same person or service, with the same key where the token is bound to one. */
export type TunnelOwner = Pick<Principal, 'issuer' | 'subject' | 'keyThumbprint'>;

/** A tunnel that its client may come back to, in this process or in another one of the gateway. */
export interface TunnelHandle {
  /** The session that it is of. */
  readonly sessionId: string;
  /** What it leads to, as its opener asked for it. */
  readonly target: Target;
  /** The address that was dialled for it. */
  readonly address: Target;
  /** Ends it, because its holder may not reach the target any more. */
  revoke(): void;
  /**
   * Checks what the offer says. Resolves to what accepts it and goes on; rejects with the refusal, before anything has
   * been said to the client.
   */
  prepare(offer: ResumeOffer): Promise<() => Promise<void>>;
}

/** Where such tunnels are. */
export interface TunnelLocator {
  /** Rejects with `TUNNEL_GONE` when there is none, or it is somebody else's, or with why it was ended. */
  find(sid: string, holder: TunnelOwner): Promise<TunnelHandle>;
}

/** What a client is told of a tunnel that is not there, or not its own. */
export function tunnelNotFound(): TunnelError {
  return new TunnelError('TUNNEL_GONE', 'the gateway does not have this session any more');
}
