import { connectEarly } from '../egress/direct.ts';
import type { EarlyConnection } from '../egress/direct.ts';
import { routeFromEnvironment } from '../egress/route/environment.ts';
import type { ClientSettings } from '../settings.ts';
import { hasSignInAt } from '../credentials/session-path.ts';
import { wayOf } from './route-request.ts';

/**
 * Begins the connection that a tunnel will need, where there seems to be a pass, the way leads straight to the gateway and
 * nobody has to be asked: the first packets travel while the rest of the program is read. Throws `CONFIG_INVALID` as
 * `egressFor` does.
 */
export function preconnect(settings: ClientSettings): EarlyConnection | undefined {
  const { file, text, state } = settings.token;
  if (file === undefined && text === undefined && !hasSignInAt(state, settings.gateway)) return undefined;
  const request = wayOf(settings);
  const [step, ...more] = routeFromEnvironment(request)?.steps ?? [];
  return step === 'direct' && more.length === 0 ? connectEarly(request.gateway) : undefined;
}
