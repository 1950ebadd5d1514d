import { TunnelError } from '../../protocol/errors.ts';
import { formatTarget, sshPort } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { RuleConfig, TargetConfig } from '../config/config.ts';
import { formatPattern, parsePattern, patternMatches } from '../../protocol/target-pattern.ts';
import type { TargetPattern } from '../../protocol/target-pattern.ts';
import type { Grant, Policy } from './policy.ts';

/** The parts of the configuration that the policy needs. */
export interface RulesOptions {
  readonly rules: readonly RuleConfig[];
  readonly targets: readonly TargetConfig[];
}

/** One step of a decision: its subject, whether it allows the tunnel, and why. */
export interface EvaluationStep {
  readonly what: string;
  readonly allows: boolean;
  readonly why: string;
}

/** A decision with its reasons, for the operator: it names rules, which the caller must not see. */
export interface RuleExplanation {
  readonly allowed: boolean;
  readonly grant?: Grant;
  /** Every rule in order, then the token's own targets where it has them, then the address. */
  readonly steps: readonly EvaluationStep[];
}

/** A policy that can explain its decisions. */
export interface RulesPolicy extends Policy {
  explain(principal: Principal, target: Target): RuleExplanation;
}

/**
 * Deny by default. The first rule that matches allows; then the token's own targets can narrow it; then the name is
 * turned into the address it stands for.
 */
export function rulesPolicy({ rules, targets }: RulesOptions): RulesPolicy {
  const byName = new Map(targets.map((target) => [target.name, target]));

  return {
    decide(principal, target) {
      const rule = rules.find((rule) => evaluateRule(rule, principal, target).allows);
      const address = evaluateAddress(byName.get(target.host), target);
      if (!rule || !evaluateClaim(principal, target).allows || !address.at) throw denied(target);
      return { target, address: address.at, rule: rule.name };
    },

    explain(principal, target) {
      const ruleSteps = rules.map((rule) => ({ what: rule.name, ...evaluateRule(rule, principal, target) }));
      const claim = evaluateClaim(principal, target);
      const address = evaluateAddress(byName.get(target.host), target);
      const rule = ruleSteps.find((step) => step.allows);
      const steps: EvaluationStep[] = [...ruleSteps];
      if (principal.targets) steps.push({ what: "the token's own targets", ...claim });
      steps.push({ what: 'the address', allows: address.at !== undefined, why: address.why });
      if (!rule || !claim.allows || !address.at) return { allowed: false, steps };
      return { allowed: true, steps, grant: { target, address: address.at, rule: rule.what } };
    },
  };
}

/** Names no rule: the caller must not learn them. */
function denied(target: Target): TunnelError {
  return new TunnelError('TARGET_DENIED', `you are not allowed to reach ${formatTarget(target)}`);
}

interface Evaluation {
  readonly allows: boolean;
  readonly why: string;
}

const no = (why: string): Evaluation => ({ allows: false, why });
const yes = (why: string): Evaluation => ({ allows: true, why });

/** Whether a rule is for the principal, whatever the target. */
export function isFor(rule: RuleConfig, principal: Principal): boolean {
  const fits = rule.issuers.length === 0 || rule.issuers.includes(principal.issuer);
  return fits && evaluatePrincipal(rule, principal) !== undefined;
}

function evaluateRule(rule: RuleConfig, principal: Principal, target: Target): Evaluation {
  if (rule.issuers.length > 0 && !rule.issuers.includes(principal.issuer))
    return no('it is for other issuers');
  const match = evaluatePrincipal(rule, principal);
  if (!match) return no('it names neither the subject nor any of the groups');
  const pattern = findMatch(rule.targets, target);
  if (!pattern) return no(`${match}, but no pattern matches ${formatTarget(target)}`);
  return yes(`${match}, pattern ${formatPattern(pattern)}`);
}

function evaluatePrincipal(rule: RuleConfig, principal: Principal): string | undefined {
  if (rule.subjects.includes(principal.subject)) return `subject ${principal.subject}`;
  const group = rule.groups.find((group) => principal.groups.has(group));
  return group === undefined ? undefined : `group ${group}`;
}

function evaluateClaim(principal: Principal, target: Target): Evaluation {
  if (!principal.targets) return yes('the token restricts no targets');
  // The authenticator has refused tokens with unreadable patterns; one that came here would throw, and nothing would open.
  const pattern = findMatch(principal.targets.map(parsePattern), target);
  return pattern
    ? yes(`pattern ${formatPattern(pattern)}`)
    : no(`no pattern matches ${formatTarget(target)}`);
}

interface MappedAddress {
  readonly at?: Target;
  readonly why: string;
}

function evaluateAddress(named: TargetConfig | undefined, target: Target): MappedAddress {
  if (!named) return { at: target, why: `${target.host} is not in targets, so it is used as it is` };
  const at = { host: named.host, port: named.port ?? target.port };
  // A name with a port of its own stands for one SSH server. A request for another port means another service.
  if (named.port !== undefined && target.port !== sshPort) {
    return { why: `targets.${named.name} has a port in its address, and serves port ${sshPort} only` };
  }
  return { at, why: `targets.${named.name} is ${formatTarget(at)}` };
}

function findMatch(patterns: readonly TargetPattern[], target: Target): TargetPattern | undefined {
  return patterns.find((pattern) => patternMatches(pattern, target));
}
