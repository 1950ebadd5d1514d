import type { Duplex } from 'node:stream';
import { toFailure } from '../errors/failure.ts';
import { check, costly, good, readUntil, unchecked } from './check.ts';
import type { Outcome } from './check.ts';
import { identificationIn } from './greeting.ts';
import { openTunnel } from './open-tunnel.ts';
import { noTarget } from './policy.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const speaker = { check: 'half-close', title: 'end of input' };

/** What a client says first (RFC 4253 §4.2). */
const identification = 'SSH-2.0-postern_doctor\r\n';

/**
 * Whether what the target still says arrives after we have said that nothing more comes, as in `ssh box sort < file`:
 * the SSH server is told who we are and, in the same breath, that this was all; it has its key exchange to say then.
 */
export const halfClose = check({
  name: 'half-close',
  title: 'end of input',
  needs: ['isSsh', 'entry'],
  limitMs: 12_000,
  async run({ entry }, place, signal): Promise<Outcome> {
    const { target } = place;
    if (target === undefined) return noTarget(speaker);
    let stream: Duplex;
    try {
      stream = await openTunnel(entry, { ...place, target }, signal);
    } catch (error) {
      return { findings: [unchecked(speaker, `another tunnel did not open (${toFailure(error).code})`)] };
    }
    try {
      return await listenAfterEnd(stream, signal);
    } finally {
      stream.destroy();
    }
  },
});

async function listenAfterEnd(stream: Duplex, signal: AbortSignal): Promise<Outcome> {
  const greeting = await readUntil(stream, (bytes) => identificationIn(bytes) !== undefined, signal);
  const afterGreeting = greeting.bytes.length - greeting.bytes.indexOf('\n') - 1;
  if (greeting.hasEnded || afterGreeting > 0 || signal.aborted)
    return { findings: [unchecked(speaker, 'this SSH server cannot be asked that way')] };
  const since = performance.now();
  let roundTripMs = 0;
  stream.end(identification);
  const { bytes } = await readUntil(
    stream,
    ({ length }) => {
      if (length > 0 && roundTripMs === 0) roundTripMs = performance.now() - since;
      return false;
    },
    deadlineSignal(signal, answerMs),
  );
  if (bytes.length > 0) {
    const what = 'what the target says after the end of our input arrives';
    return { findings: [good(speaker, what)], found: { roundTripMs } };
  }
  return {
    findings: [
      costly(speaker, 'after the end of our input, nothing of what the target still says arrives', {
        meaning:
          'something on the way ends both directions when one ends. Sessions in a terminal do not mind; ssh box sort < file loses its output.',
        advice:
          'use a way in that carries the end inside, any but connect; if this was one, tell those who run the gateway.',
      }),
    ],
  };
}

const answerMs = 5000;
