import type { LoginParts } from '../login/login.ts';
import { BoundedLog } from '../telemetry/bounded-log.ts';
import type { Log } from '../telemetry/log.ts';

type LoginEvents = Pick<LoginParts, 'onError' | 'onSignIn' | 'onRefused'>;

/** Writes what happens at signing in to the log; what people who have not signed in can cause is bounded. */
export function loginLog(log: Log): LoginEvents {
  const bounded = new BoundedLog(log);
  return {
    onError: (err) => bounded.write('error', 'failed', { err }, 'a sign-in failed'),
    onSignIn: ({ id, subject, kind, remoteAddress }) =>
      log.info({ signIn: id, subject, kind, client: remoteAddress }, 'signed in'),
    onRefused: (refused) => bounded.write('warn', 'refused', refused, 'sign-in refused'),
  };
}
