import type { RelayJoined } from '../../protocol/relay-frame.ts';
import type { ResumeCause } from '../../protocol/resume-cause.ts';
import type { Carrier } from '../../stream/carrier.ts';

/** A request to resume the tunnel on another carrier. */
export interface ResumeRequest {
  /** The number of bytes that were received from the gateway and passed on. */
  readonly received: number;
  readonly cause: ResumeCause;
  /** Takes the number of the request, higher than that of every one before; called when the request is made. */
  readonly nextCount: () => number;
  /** Called when the gateway, or a proxy before it, has been reached. */
  readonly onConnected: () => void;
}

/** A carrier on which the gateway has agreed to resume. */
export interface ResumeResult {
  readonly carrier: Carrier;
  readonly resumed: RelayJoined;
  /** Whether there is a better connector than the one that brought it. */
  readonly isSecondBest?: boolean;
}
