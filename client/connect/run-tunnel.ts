import type { Target } from '../../protocol/target.ts';
import { standardInput } from '../../stream/zero-copy/pooled-input.ts';
import type { PlannedRoute } from '../egress/route/route.ts';
import { standardOutput } from '../../base/standard-output.ts';
import { writeInSession } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';
import type { CallerWatch } from './caller-watch.ts';
import { egressFor } from './gateway-egress.ts';
import { canSignIn, openTunnelTo, signInFirst } from './open-tunnel.ts';
import { carry } from './stdio.ts';

/**
 * Opens the tunnel by `route`, after a sign-in where one is needed and a person is there, and carries it on the standard
 * streams to its end, or to that of `caller`. Resolves to the exit code. Throws as `openTunnelTo`, `signInFirst` and `carry`.
 */
export async function runTunnel(
  target: Target,
  settings: ClientSettings,
  route: PlannedRoute,
  caller: CallerWatch,
): Promise<number> {
  const context = { settings, egress: egressFor(settings, route), notify: writeInSession };
  let stream;
  try {
    stream = await openTunnelTo(target, context);
  } catch (error) {
    if (!(error instanceof ClientError && error.code === 'TOKEN_MISSING' && canSignIn(settings))) throw error;
    // ssh has left of its own accord: the sign-in is for the next one.
    await signInFirst({ ...context, onHangup: () => caller.stop() });
    stream = await openTunnelTo(target, context);
  }
  const input = standardInput();
  try {
    return await carry(stream, { input, output: standardOutput(), signals: process, caller });
  } catch (error) {
    // The error report begins on a line of its own.
    writeInSession('');
    throw error;
  } finally {
    // ssh can keep its end open.
    input.destroy();
  }
}
