import { formatTarget } from '../../protocol/target.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import { check, failed, ok, skip } from './check.ts';
import type { ClientOutcome } from './check.ts';
import { noTarget, refusalOf } from './policy.ts';

const id = { check: 'target', title: 'target' };

const meanings: Partial<Record<TunnelErrorCode, string>> = {
  NAME_NOT_FOUND: 'the gateway cannot resolve the name. It is misspelled, or missing in the DNS there.',
  NAME_FAILED: 'the gateway cannot resolve the name at the moment: its DNS has a problem.',
  NAME_TIMEOUT: 'the gateway cannot resolve the name at the moment: its DNS does not answer.',
  DIAL_REFUSED: 'the machine is up, but no SSH server listens on this port.',
  DIAL_TIMEOUT: 'the machine does not answer the gateway: it is off, or a firewall blocks the connection.',
  DIAL_UNREACHABLE: 'the gateway has no route to the machine.',
};

/** Whether the gateway can connect to the target. */
export const target = check({
  name: 'target',
  title: 'target',
  needs: ['access', 'probes', 'entry'],
  limitMs: 1000,
  run({ probes }, { target: requested }): ClientOutcome {
    if (requested === undefined) return noTarget(id);
    const name = formatTarget(requested);
    const refused = refusalOf(probes);
    if (refused === undefined)
      return {
        findings: [ok(id, `the gateway has connected to ${name}`)],
        found: { isDialled: true },
      };
    const { failure } = refused;
    if (failure!.facts.layer !== 'target')
      return { findings: [skip(id, 'the permission has to work first')] };
    const meaning = meanings[failure!.code];
    return {
      findings: [
        failed(id, failure!, {
          ...(meaning === undefined ? {} : { meaning }),
          advice: `tell the operators of ${requested.host}, or of the gateway, and quote the request. Everything up to the gateway works.`,
        }),
      ],
    };
  },
});
