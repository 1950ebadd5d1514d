import { formatTarget } from '../../protocol/target.ts';
import { check, failed, ok, skip } from './check.ts';
import type { ClientOutcome, ClientDoctorContext, Probe } from './check.ts';

const id = { check: 'policy', title: 'permission' };

/** Whether the rules of the gateway allow the target. */
export const policy = check({
  name: 'policy',
  title: 'permission',
  needs: ['access', 'probes', 'entry'],
  limitMs: 1000,
  run({ access, probes }, { target }: ClientDoctorContext): ClientOutcome {
    const reach = access.hosts.map(({ pattern }) => pattern);
    const list = `${reach.slice(0, maxNamed).join(', ')}${reach.length > maxNamed ? ` and ${reach.length - maxNamed} more` : ''}`;
    const reachable =
      reach.length === 0 ? 'the rules do not allow you to reach any host' : `you can reach ${list}`;
    if (target === undefined) {
      const finding = ok(id, `no host was named; ${reachable}`, { shared: 'no host was named' });
      return { findings: [finding] };
    }
    const name = formatTarget(target);
    const refused = refusalOf(probes);
    if (refused === undefined || refused.failure!.facts.layer === 'target')
      return { findings: [ok(id, `the rules allow you to reach ${name}`)] };
    const failure = refused.failure!;
    if (failure.facts.layer !== 'policy') {
      const advice = failure.facts.retry
        ? 'try again in a minute; then tell the operators of the gateway.'
        : undefined;
      return { findings: [failed(id, failure, advice === undefined ? {} : { advice })] };
    }
    return {
      findings: [
        failed(id, failure, {
          meaning:
            failure.code === 'TARGET_DENIED'
              ? `you are signed in, but no rule allows you to reach ${name}; ${reachable}.`
              : 'you are signed in, but the gateway does not open this tunnel.',
          advice:
            'check the name and the port; then ask the operators of the gateway, and quote the request.',
        }),
      ],
    };
  },
});

const maxNamed = 6;

/** The gateway's refusal; undefined when a tunnel has opened. */
export function refusalOf(probes: readonly Probe[]): Probe | undefined {
  if (probes.some(({ state }) => state === 'open')) return undefined;
  return probes.find(({ state }) => state === 'answered');
}

/** The outcome of a check of the target where none was named. */
export function noTarget(id: { readonly check: string; readonly title: string }): ClientOutcome {
  return { findings: [skip(id, 'no host was named (postern doctor HOST)')] };
}
