import type { Principal } from '../auth/authenticator.ts';
import type { RuleConfig } from '../config/config.ts';
import { formatPattern, intersectPatterns, parsePattern } from '../../protocol/target-pattern.ts';
import type { TargetPattern } from '../../protocol/target-pattern.ts';
import { isFor } from './rules.ts';

/**
 * The patterns that the rules and the token's own targets allow a principal to request: each once, in the order of the
 * rules. The network policy is evaluated when a tunnel opens.
 */
export function reachablePatterns(
  rules: readonly RuleConfig[],
  principal: Principal,
): readonly TargetPattern[] {
  const own = principal.targets?.map(parsePattern);
  const patterns = rules.filter((rule) => isFor(rule, principal)).flatMap((rule) => rule.targets);
  const narrowed = own
    ? patterns.flatMap((pattern) => own.flatMap((claim) => intersectPatterns(pattern, claim) ?? []))
    : patterns;
  return [...new Map(narrowed.map((pattern) => [formatPattern(pattern), pattern])).values()];
}

/** The first of some patterns of which a principal can reach no part; undefined: each has one that it can reach. */
export function firstUnreachable(
  rules: readonly RuleConfig[],
  principal: Principal,
  patterns: readonly TargetPattern[],
): TargetPattern | undefined {
  const reachable = reachablePatterns(rules, principal);
  return patterns.find((pattern) => !reachable.some((each) => intersectPatterns(each, pattern)));
}
