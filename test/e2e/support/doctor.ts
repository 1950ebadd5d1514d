import { strict as assert } from 'node:assert';
import type { Diagnosis } from '../../../client/commands/doctor.ts';
import type { JsonFinding } from '../../../diagnostics/render.ts';
import { clientCommand } from './ssh.ts';
import type { Environment, Outcome } from './process.ts';
import type { World } from './world.ts';

/** What a doctor run has come to. */
export interface Examined extends Diagnosis {
  readonly outcome: Outcome;
  finding(check: string): JsonFinding;
  /** The first that keeps ssh from working. */
  readonly first: JsonFinding | undefined;
}

/** Runs `postern doctor --json` as a process of its own. */
export async function runDoctor(
  world: Pick<World, 'ssh'>,
  args: readonly string[],
  env: Environment = {},
): Promise<Examined> {
  const outcome = await world
    .ssh()
    .command(clientCommand('doctor', '--json', ...args), { env, timeoutMs: 60_000 });
  assert.notEqual(outcome.stdout.length, 0, outcome.stderr.toString());
  const diagnosis = JSON.parse(outcome.stdout.toString()) as Diagnosis;
  return {
    ...diagnosis,
    outcome,
    finding: (check) => {
      const found = diagnosis.findings.find((finding) => finding.check === check);
      assert.ok(found, `${check} is not among ${diagnosis.findings.map((each) => each.check).join(', ')}`);
      return found;
    },
    first: diagnosis.findings.find(({ verdict }) => verdict === 'failed'),
  };
}
