import type { Target } from '../../protocol/target.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { Config } from '../config/config.ts';
import { ownIssuer, signInIssuer } from '../config/issuer-urls.ts';
import { addressCheck } from '../dial/address-policy.ts';
import type { AddressCheck } from '../dial/address-policy.ts';
import type { Policy } from '../policy/policy.ts';
import { rulesPolicy } from '../policy/rules.ts';
import type { SessionObserver, SessionRecord, Sessions } from '../session/sessions.ts';
import type { Log } from '../telemetry/log.ts';

/** The event loop is given back after this long. */
const sliceMs = 5;
/** An offer that was decided on before a reload opens within this time of its limits, or not at all. */
const openingMarginMs = 10_000;

/** What an open tunnel is checked against. */
interface Measure {
  readonly policy: Policy;
  readonly evaluateAddress: AddressCheck;
  readonly issuers: ReadonlySet<string>;
}

/**
 * Ends open tunnels that new settings no longer allow: a new one for the same principal, target and address would be
 * refused. As an observer of the sessions it checks those too that were decided on by the old settings, and open later.
 */
export class PolicyRecheck implements SessionObserver {
  readonly #sessions: () => Pick<Sessions, 'records' | 'find'>;
  readonly #log: Pick<Log, 'info'>;
  #measure: Measure | undefined;
  #checksOpeningUntil = -Infinity;

  constructor(sessions: () => Pick<Sessions, 'records' | 'find'>, log: Pick<Log, 'info'>) {
    this.#sessions = sessions;
    this.#log = log;
  }

  /** Resolves when all are checked. Never rejects. */
  async run(config: Config): Promise<void> {
    if (config.reload.recheck === 'keep') {
      this.#measure = undefined;
      return;
    }
    const measure = measureOf(config);
    this.#measure = measure;
    const { preAuthMs, dialMs } = config.limits;
    this.#checksOpeningUntil = performance.now() + preAuthMs + dialMs + openingMarginMs;
    let ended = 0;
    let sliceEnd = performance.now() + sliceMs;
    for (const record of this.#sessions().records()) {
      // A newer reload checks all of them.
      if (this.#measure !== measure) return;
      if (this.#check(record, measure)) ended++;
      if (performance.now() < sliceEnd) continue;
      await new Promise((resolve) => setImmediate(resolve));
      sliceEnd = performance.now() + sliceMs;
    }
    if (ended > 0) this.#log.info({ ended }, 'ended tunnels that the new configuration no longer allows');
  }

  opened(record: SessionRecord): void {
    if (this.#measure && performance.now() < this.#checksOpeningUntil) this.#check(record, this.#measure);
  }

  ended(): void {}

  /** Whether it had to be ended. */
  #check(record: SessionRecord, measure: Measure): boolean {
    if (record.end !== undefined) return false;
    const why = objection(record, measure);
    if (why === undefined) return false;
    this.#sessions().find(record.id)?.abort('POLICY', why);
    return true;
  }
}

function measureOf({ rules, targets, issuers, network, publicUrl, listen, admin }: Config): Measure {
  return {
    policy: rulesPolicy({ rules, targets }),
    evaluateAddress: addressCheck({ network, ownAddresses: [listen, admin] }),
    issuers: new Set([ownIssuer(publicUrl), signInIssuer(publicUrl), ...issuers.map(({ issuer }) => issuer)]),
  };
}

/** Why a tunnel would not be opened now, for the log and the audit; undefined for one that is not decided on yet. */
function objection(
  { principal, grant, dialled }: SessionRecord,
  { policy, evaluateAddress, issuers }: Measure,
): string | undefined {
  if (!principal || !grant) return undefined;
  if (!issuers.has(principal.issuer)) return 'its issuer is no longer trusted';
  const address = currentAddress(policy, principal, grant.target);
  if (address === undefined) return 'no rule allows it any more';
  if (address.host !== grant.address.host || address.port !== grant.address.port)
    return 'its target has another address now';
  if (!dialled) return undefined;
  const { allowed, why } = evaluateAddress(dialled.host, dialled.port);
  return allowed ? undefined : `its address is no longer allowed: ${why}`;
}

/** The address that the rules grant now; undefined when they refuse. */
function currentAddress(policy: Policy, principal: Principal, target: Target): Target | undefined {
  try {
    return policy.decide(principal, target).address;
  } catch {
    return undefined;
  }
}
