import type { Duplex } from 'node:stream';
import { toFailure } from '../errors/failure.ts';
import { check, warning, ok, readUntil, skip } from './check.ts';
import type { ClientOutcome } from './check.ts';
import { identificationIn } from './greeting.ts';
import { openTunnel } from './open-tunnel.ts';
import { noTarget } from './policy.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const id = { check: 'half-close', title: 'end of input' };

/** The client's first line (RFC 4253 §4.2). */
const identification = 'SSH-2.0-postern_doctor\r\n';

/**
 * Whether the target's output arrives after the end of our input, as in `ssh box sort < file`: the SSH server gets our
 * identification and the end of input at once, and still has its key exchange to send.
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
    return { findings: [skip(id, 'this SSH server does not allow the test')] };
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
    const what = 'output after the end of input arrives';
    return { findings: [ok(id, what)], found: { roundTripMs } };
  }
  return {
    findings: [
      warning(id, 'output after the end of input does not arrive', {
        meaning:
          'an intermediary ends both directions when one ends. Terminal sessions are not affected; ssh box sort < file loses its output.',
        advice:
          'use an entry other than connect: all others carry the end of input themselves. If this was such an entry, tell the operators of the gateway.',
      }),
    ],
  };
}

const answerMs = 5000;
