import { skipped } from '../../diagnostics/finding.ts';
import type { CheckStatus, Explanation } from '../../diagnostics/finding.ts';
import { idOf } from '../../diagnostics/run-checks.ts';
import type { Check, Outcome } from '../../diagnostics/run-checks.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import type { Config } from '../config/config.ts';
import type { FrontName } from './fronts.ts';

/** What the doctor examines: the gateway of a configuration, seen from outside. */
export interface GatewayDoctorContext {
  readonly config: Config;
  /** The URL by which clients reach it. */
  readonly url: URL;
  /** Trusted besides the authorities of Node.js, in PEM. */
  readonly authorities: readonly string[];
  /** A token signed with the gateway's own key, for this examination; absent where the key cannot be read. */
  readonly token?: string;
  /** The target of a test tunnel; absent: none is opened. */
  readonly host?: Target;
  readonly idleSeconds: number;
  /** Says why the gateway refuses a tunnel to `host` with this code, and what to change, from its own configuration. */
  readonly explain?: (code: TunnelErrorCode, host: Target) => Promise<RefusalExplanation | undefined>;
}

/** Why a tunnel is refused. */
export interface RefusalExplanation {
  readonly why: string;
  readonly advice: string;
  readonly lines: readonly string[];
}

/** What checks have found, for the checks after them. */
export interface GatewayFacts {
  readonly isRunning: true;
  readonly addresses: readonly string[];
  readonly isConnected: true;
  /** The TLS handshake succeeds, where `url` is https. */
  readonly isSecure: true;
  /** Requests below the prefix arrive at this gateway. */
  readonly isForwarded: true;
  /** The web server before the gateway, as far as it identifies itself. */
  readonly front: FrontName | undefined;
  /** Entries whose requests arrive. */
  readonly passing: readonly string[];
}

export type GatewayCheck = Check<GatewayDoctorContext, GatewayFacts>;
export type GatewayOutcome = Outcome<GatewayFacts>;

/** The outcome of a check that has one finding. */
export function finding(
  check: Pick<GatewayCheck, 'name' | 'title'>,
  status: CheckStatus,
  words: Explanation & { readonly what: string },
): GatewayOutcome {
  return { findings: [{ ...idOf(check), status, ...words }] };
}

/** The outcome of a check that could not be carried out. */
export function skip(check: Pick<GatewayCheck, 'name' | 'title'>, why: string): GatewayOutcome {
  return { findings: [skipped(idOf(check), why)] };
}
