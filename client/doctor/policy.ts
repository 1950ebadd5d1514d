import { formatTarget } from '../../protocol/target.ts';
import { check, failed, good, unchecked } from './check.ts';
import type { Outcome, DoctorContext, Probe } from './check.ts';

const speaker = { check: 'policy', title: 'permission' };

/** Whether the rules of the gateway allow the target. */
export const policy = check({
  name: 'policy',
  title: 'permission',
  needs: ['access', 'probes', 'entry'],
  limitMs: 1000,
  run({ access, probes }, { target }: DoctorContext): Outcome {
    const reach = access.hosts.map(({ pattern }) => pattern);
    const list = `${reach.slice(0, mostNamed).join(', ')}${reach.length > mostNamed ? ` and ${reach.length - mostNamed} more` : ''}`;
    const may = reach.length === 0 ? 'the rules allow you no host' : `you may reach ${list}`;
    if (target === undefined) {
      const finding = good(speaker, `no host was named; ${may}`, { shared: 'no host was named' });
      return { findings: [finding] };
    }
    const name = formatTarget(target);
    const refused = refusalOf(probes);
    if (refused === undefined || refused.failure!.facts.layer === 'target')
      return { findings: [good(speaker, `the rules allow you ${name}`)] };
    const failure = refused.failure!;
    if (failure.facts.layer !== 'policy') {
      const advice = failure.facts.retry
        ? 'try again in a minute; then tell those who run the gateway.'
        : undefined;
      return { findings: [failed(speaker, failure, advice === undefined ? {} : { advice })] };
    }
    return {
      findings: [
        failed(speaker, failure, {
          meaning:
            failure.code === 'TARGET_DENIED'
              ? `you are known, but no rule allows you ${name}; ${may}.`
              : 'you are known, and the gateway does not let this tunnel open.',
          advice: 'check the name and the port; then ask those who run the gateway, and quote the request.',
        }),
      ],
    };
  },
});

const mostNamed = 6;

/** What the gateway had to say against it; undefined when a tunnel has opened. */
export function refusalOf(probes: readonly Probe[]): Probe | undefined {
  if (probes.some(({ state }) => state === 'open')) return undefined;
  return probes.find(({ state }) => state === 'answered');
}

/** What a check of the target says where none was named. */
export function noTarget(speaking: { readonly check: string; readonly title: string }): Outcome {
  return { findings: [unchecked(speaking, 'no host was named (postern doctor HOST)')] };
}
