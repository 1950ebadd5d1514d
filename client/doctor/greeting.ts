import { formatTarget } from '../../protocol/target.ts';
import { ClientError } from '../errors/failure.ts';
import { check, failed, ok } from './check.ts';
import type { ClientOutcome } from './check.ts';
import { noTarget } from './policy.ts';

const id = { check: 'ssh', title: 'SSH server' };

/** Whether an SSH server greets through the tunnel. */
export const sshBanner = check({
  name: 'ssh',
  title: 'SSH server',
  needs: ['probes', 'isDialled'],
  limitMs: 1000,
  run({ probes }, { target }): ClientOutcome {
    if (target === undefined) return noTarget(id);
    const greetings = probes.flatMap((probe) => (probe.greeting === undefined ? [] : [probe.greeting]));
    const line = greetings.map(identificationIn).find((text) => text !== undefined);
    if (line !== undefined) return { findings: [ok(id, `its greeting: ${line}`)], found: { isSsh: true } };
    const first = greetings.find(({ length }) => length > 0);
    const name = formatTarget(target);
    const failure = new ClientError(
      'TARGET_NOT_SSH',
      first === undefined
        ? `${name} accepts the connection, but sends nothing`
        : `${name} sends something other than SSH: ${JSON.stringify(first.subarray(0, 40).toString('latin1'))}`,
    );
    return {
      findings: [
        failed(id, failure, {
          meaning:
            first === undefined
              ? 'the SSH server is stuck or overloaded, or another program listens on this port.'
              : 'another program listens on this port.',
          advice: `check the port; if it is right, tell the operators of ${target.host}.`,
        }),
      ],
    };
  },
});

/** The identification line (RFC 4253 §4.2); lines before it are for people. */
export function identificationIn(bytes: Buffer): string | undefined {
  return /^(SSH-[12]\.[^\r\n\u2028\u2029]{1,250})\r?\n/m.exec(bytes.toString('latin1'))?.[1];
}
