import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';

/** Permission to open one tunnel. */
export interface Grant {
  /** The target that was requested. */
  readonly target: Target;
  /** Its address: literal, or a name that is still to be resolved. */
  readonly address: Target;
  /** The rule that allowed it, as `explain` and the audit name it. */
  readonly rule: string;
}

export interface Policy {
  /** Decides; pure and synchronous. Throws `TARGET_DENIED`. */
  decide(principal: Principal, target: Target): Grant;
}
