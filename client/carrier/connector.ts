import type { Carrier } from '../../stream/carrier.ts';
import type { Egress } from '../egress/egress.ts';
import type { PresentedCredential } from '../credentials/with-credential.ts';

/** Remembers whether an intermediary in this network holds back responses that are still being written. */
export interface BufferingMemory {
  recall(): boolean;
  keep(): void;
}

/** A carrier to be asked for. */
export interface ConnectorRequest {
  readonly gateway: URL;
  readonly kind: 'connect' | 'reconnect';
  readonly query: Readonly<Record<string, string>>;
  readonly pass: PresentedCredential;
  /** More fields of the request. */
  readonly fields?: Readonly<Record<string, string>>;
  readonly egress: Egress;
  readonly signal: AbortSignal;
  readonly isBuffered?: BufferingMemory;
  /** Told when the gateway, or a proxy before it, has been reached. */
  readonly onConnected?: () => void;
}

/** A way by which carriers of a resumable tunnel come. */
export interface CarrierConnector {
  /** Opens a carrier; the caller owns it, and hears the greeting first. Throws as `ClientEntry.open` does. */
  open(question: ConnectorRequest): Promise<Carrier>;
}
