import type { EndReason } from '../../protocol/end-reason.ts';
import { TunnelEnded, tunnelEnded } from '../../stream/tunnel-ended.ts';

/**
 * How the reason of a kill begins that a session's owner asked for; the page follows. It is part of the text, so that
 * processes of every version pass it on.
 */
const ownerPrefix = 'ended by its owner on ';

/** The reason of a kill without one. */
export const defaultKillReason = 'ended by the operator';

const maxReasonCharacters = 80;

/** The reason, for log and audit, of a kill that a session's owner asked for on a page. */
export function ownerKillReason(page: URL): string {
  return `${ownerPrefix}${page.href}`;
}

/** A reason as an operator has written it, who cannot speak for the owner of a session. */
export function operatorKillReason(reason: string): string {
  return reason.startsWith(ownerPrefix) ? defaultKillReason : reason;
}

/** The end of a session as its client is told: whose doing it was, and why. `why` is the reason for log and audit. */
export function endForClient(reason: EndReason, why: string | undefined): TunnelEnded {
  if (reason !== 'KILLED' || why === undefined) return tunnelEnded(reason);
  if (why.startsWith(ownerPrefix))
    return new TunnelEnded(reason, `you ended this session on ${why.slice(ownerPrefix.length)}`);
  const words = printable(why);
  if (words === '' || words === defaultKillReason) return tunnelEnded(reason);
  return new TunnelEnded(reason, `an operator ended this session: ${words}`);
}

/** Text of an operator for another person's terminal: one line without control and formatting characters. */
function printable(text: string): string {
  const line = text
    .replaceAll(/\s/g, ' ')
    .replaceAll(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, '')
    .trim();
  const characters = Array.from(line);
  return characters.length <= maxReasonCharacters
    ? line
    : `${characters.slice(0, maxReasonCharacters - 1).join('')}…`;
}
