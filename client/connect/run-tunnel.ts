import type { Target } from '../../protocol/target.ts';
import { sayInSession } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import { standardInput } from '../../stream/zero-copy/pooled-input.ts';
import type { ClientSettings } from '../settings.ts';
import { carry } from './stdio.ts';
import { maySignIn, openTunnelTo, signInFirst } from './open-tunnel.ts';
import { egressFor } from './gateway-egress.ts';

/**
 * Opens the tunnel, after a sign-in where one is needed and a person is there, and carries it on the standard streams to
 * its end. Resolves to the exit code. Throws as `openTunnelTo`, `signInFirst` and `carry`.
 */
export async function carryTunnel(target: Target, settings: ClientSettings): Promise<number> {
  const ways = { settings, egress: egressFor(settings), say: sayInSession };
  let stream;
  try {
    stream = await openTunnelTo(target, ways);
  } catch (error) {
    if (!(error instanceof ClientError && error.code === 'TOKEN_MISSING' && maySignIn(settings))) throw error;
    await signInFirst(ways);
    stream = await openTunnelTo(target, ways);
  }
  const input = standardInput();
  try {
    return await carry(stream, { input, output: process.stdout, signals: process });
  } catch (error) {
    // What is told of it begins a line of its own.
    sayInSession('');
    throw error;
  } finally {
    // ssh's end of it may stay open.
    input.destroy();
  }
}
