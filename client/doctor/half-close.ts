import type { Duplex } from 'node:stream';
import { toFailure } from '../errors/failure.ts';
import { check, warning, ok, readUntil, skip } from './check.ts';
import type { ClientOutcome } from './check.ts';
import { identificationIn } from './greeting.ts';
import { openTunnel } from './open-tunnel.ts';
import { noTarget } from './policy.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const id = { check: 'half-close', title: 'end of input' };

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
  async run({ entry }, context, signal): Promise<ClientOutcome> {
    const { target } = context;
    if (target === undefined) return noTarget(id);
    let stream: Duplex;
    try {
      stream = await openTunnel(entry, { ...context, target }, signal);
    } catch (error) {
      return { findings: [skip(id, `another tunnel did not open (${toFailure(error).code})`)] };
    }
    try {
      return await listenAfterEnd(stream, signal);
    } finally {
      stream.destroy();
    }
  },
});

async function listenAfterEnd(stream: Duplex, signal: AbortSignal): Promise<ClientOutcome> {
  const greeting = await readUntil(stream, (bytes) => identificationIn(bytes) !== undefined, signal);
  const afterGreeting = greeting.bytes.length - greeting.bytes.indexOf('\n') - 1;
  if (greeting.hasEnded || afterGreeting > 0 || signal.aborted)
    return { findings: [skip(id, 'this SSH server cannot be asked that way')] };
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
    return { findings: [ok(id, what)], found: { roundTripMs } };
  }
  return {
    findings: [
      warning(id, 'after the end of our input, nothing of what the target still says arrives', {
        meaning:
          'something on the way ends both directions when one ends. Sessions in a terminal do not mind; ssh box sort < file loses its output.',
        advice:
          'use a way in that carries the end inside, any but connect; if this was one, tell those who run the gateway.',
      }),
    ],
  };
}

const answerMs = 5000;
