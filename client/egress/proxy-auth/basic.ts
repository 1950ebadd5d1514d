import type { ProxyCredentials } from './credentials.ts';
import type { AuthExchange } from './scheme.ts';
import { SchemeUnavailable } from './scheme.ts';

/** RFC 7617, in UTF-8: the password itself, to whoever listens on the way to the proxy. */
export function basic({ user, password }: ProxyCredentials): AuthExchange {
  let isSent = false;
  return {
    isInProgress: false,
    get hasSentCredential() {
      return isSent;
    },
    answer() {
      if (isSent) return undefined;
      if (user.includes(':'))
        throw new SchemeUnavailable('Basic has no way to write a user name with a colon');
      isSent = true;
      return `Basic ${Buffer.from(`${user}:${password.reveal()}`).toString('base64')}`;
    },
  };
}
