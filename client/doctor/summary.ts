import { tunnelErrors } from '../../protocol/errors.ts';
import { firstError } from '../../diagnostics/finding.ts';
import type { Finding } from '../../diagnostics/finding.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';

/** The summary of all findings. */
export interface Judgement {
  /** Whether ssh would work; without a host, whether the gateway can be reached. */
  readonly works: boolean;
  readonly exit: number;
  /** One or two sentences for people. */
  readonly words: string;
}

/** The entries that carry a tunnel on one connection. */
const fastEntries = ['relay', 'websocket', 'connect-tcp'] as const;

/** Ctrl-C, as a shell has it. */
const interrupted = 130;
const temporary = 75;

/** Summarizes by the first error; where there is none, by whether the last step was reached. */
export function summarize(
  findings: readonly Finding[],
  target: Target | undefined,
  isInterrupted: boolean,
): Judgement {
  const subject = target === undefined ? 'ssh' : `ssh to ${formatTarget(target)}`;
  const first = firstError(findings);
  if (first !== undefined) {
    const { exit } = tunnelErrors[first.code ?? 'INTERNAL'];
    return { works: false, exit, words: `${subject} cannot work. Fix this first: ${first.title}.` };
  }
  const last = target === undefined ? 'policy' : 'ssh';
  if (!findings.some(({ check, status }) => check === last && status === 'ok')) {
    const words = `No problem was found that stops ${subject}, but not everything was checked.`;
    return { works: false, exit: isInterrupted ? interrupted : temporary, words };
  }
  if (
    fastEntries.every((entry) =>
      findings.some((each) => each.check === `entry-${entry}` && each.status === 'warning'),
    )
  ) {
    const words = `${subject} works, but slowly: nothing but plain requests gets through. Fix: ${fastEntries.join(', ')}.`;
    return { works: true, exit: isInterrupted ? interrupted : 0, words };
  }
  const costs = findings.filter(({ status }) => status === 'warning').map(({ title }) => title);
  const besides = costs.length === 0 ? '' : ` Worth a look: ${costs.join(', ')}.`;
  const words =
    target === undefined
      ? `The path to the gateway works.${besides} To check a host as well: postern doctor HOST`
      : `${subject} works.${besides}`;
  return { works: true, exit: isInterrupted ? interrupted : 0, words };
}
