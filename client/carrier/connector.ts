import type { Carrier } from '../../stream/carrier.ts';
import type { Egress } from '../egress/egress.ts';
import type { PresentedCredential } from '../credentials/with-credential.ts';

/** Remembers whether an intermediary in this network holds back responses that are still being written. */
export interface BufferingMemory {
  recall(): boolean;
  keep(): void;
}

/**
 * Why an entry was used and none that is preferred to it: those were `refused`, every one, by something that answered;
 * or at least one was only `lost`, again and again, while this one got through.
 */
export type Evidence = 'refused' | 'lost';

/** A request for a carrier. */
export interface ConnectorRequest {
  readonly gateway: URL;
  readonly kind: 'connect' | 'reconnect';
  readonly query: Readonly<Record<string, string>>;
  readonly pass: PresentedCredential;
  /** Additional header fields. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly egress: Egress;
  readonly signal: AbortSignal;
  readonly isBuffered?: BufferingMemory;
  /** Called when the gateway, or a proxy before it, has been reached. */
  readonly onConnected?: () => void;
}

/** A method of opening carriers of a resumable tunnel. */
export interface CarrierConnector {
  /** Opens a carrier; the caller owns it, and receives the greeting first. Throws as `ClientEntry.open` does. */
  open(request: ConnectorRequest): Promise<Carrier>;
}
