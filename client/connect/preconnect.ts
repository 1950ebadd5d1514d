import { connectEarly } from '../egress/direct.ts';
import type { EarlyConnection } from '../egress/direct.ts';
import { environmentVerdict } from '../egress/route/environment.ts';
import type { Settings } from '../settings.ts';
import { hasSignInAt } from '../credentials/session-path.ts';
import { wayOf } from './route-request.ts';

/**
 * Begins the connection that a tunnel will need, where there seems to be a pass, the way leads straight to the gateway and
 * nobody has to be asked: the first packets travel while the rest of the program is read. Throws `CONFIG_INVALID` as
 * `wayOut` does.
 */
export function headStart(settings: Settings): EarlyConnection | undefined {
  const { file, text, state } = settings.token;
  if (file === undefined && text === undefined && !hasSignInAt(state, settings.gateway)) return undefined;
  const way = wayOf(settings);
  const [step, ...more] = environmentVerdict(way)?.steps ?? [];
  return step === 'direct' && more.length === 0 ? connectEarly(way.gateway) : undefined;
}
