import type { Finding, CheckStatus } from '../../diagnostics/finding.ts';
import type { Target } from '../../protocol/target.ts';
import type { Config } from '../config/config.ts';
import type { FrontName } from './fronts.ts';

/** What is examined: the gateway of a configuration, as it is seen from outside. */
export interface DoctorContext {
  readonly config: Config;
  /** Where people reach it. */
  readonly url: URL;
  /** Believed besides the usual authorities, in PEM. */
  readonly authorities: readonly string[];
  /** A token of the gateway's own key, for this examination; undefined where the key cannot be read. */
  readonly token?: string;
  /** To open a tunnel to. */
  readonly host?: Target;
  readonly idleSeconds: number;
}

/** What checks have found, for those after them. A check runs only when what it needs is there. */
export interface Facts {
  readonly isRunning: true;
  readonly addresses: readonly string[];
  readonly isConnected: true;
  /** TLS, where it is wanted. */
  readonly isSecure: true;
  /** Requests below the prefix arrive at this gateway. */
  readonly isForwarded: true;
  /** What stands before the gateway, as far as it says so. */
  readonly front: FrontName | undefined;
  /** Entries whose requests arrive. */
  readonly passing: readonly string[];
}

/** What a check comes to. */
export interface Outcome {
  readonly findings: readonly Finding[];
  readonly found?: Partial<Facts>;
}

/** One step of the way in. */
export interface Check {
  readonly name: string;
  readonly title: string;
  readonly needs: readonly (keyof Facts)[];
  readonly limitMs: number;
  run(found: Partial<Facts>, place: DoctorContext, signal: AbortSignal): Promise<Outcome>;
}

/** What a finding may have besides its first line. */
export type Explanation = Pick<Finding, 'meaning' | 'advice' | 'lines' | 'code'>;

/** What a check says. */
export function finding(
  { name, title }: Pick<Check, 'name' | 'title'>,
  verdict: CheckStatus,
  words: Explanation & { readonly what: string },
): Outcome {
  return { findings: [{ check: name, title, verdict, ...words }] };
}

/** Why a check has nothing to say. */
export function unchecked(speaker: Pick<Check, 'name' | 'title'>, why: string): Outcome {
  return finding(speaker, 'unchecked', { what: `not checked: ${why}` });
}
