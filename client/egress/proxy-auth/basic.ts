import type { ProxyCredentials } from './credentials.ts';
import type { AuthExchange } from './scheme.ts';
import { SchemeUnavailable } from './scheme.ts';

/** Basic (RFC 7617), in UTF-8: sends the password itself, readable for an eavesdropper before the proxy. */
export function basic({ user, password }: ProxyCredentials): AuthExchange {
  let isSent = false;
  return {
    isInProgress: false,
    get hasSentCredential() {
      return isSent;
    },
    answer() {
      if (isSent) return undefined;
      if (user.includes(':')) throw new SchemeUnavailable('Basic does not allow a colon in the user name');
      isSent = true;
      return `Basic ${Buffer.from(`${user}:${password.reveal()}`).toString('base64')}`;
    },
  };
}
