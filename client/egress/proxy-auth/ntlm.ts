import { randomBytes } from 'node:crypto';
import { ClientError } from '../../errors/failure.ts';
import { splitUser } from './credentials.ts';
import type { ProxyCredentials } from './credentials.ts';
import { authenticateMessage, negotiateMessage, parseChallengeMessage } from './ntlm-message.ts';
import { SchemeUnavailable } from './scheme.ts';
import type { AuthExchange } from './scheme.ts';

/**
 * NTLMv2: three messages on one connection. Most Windows proxies accept them as `Negotiate` too, which helps where only
 * that is offered and there is no Kerberos here.
 */
export function ntlm(credentials: ProxyCredentials, word: 'NTLM' | 'Negotiate' = 'NTLM'): AuthExchange {
  let sent: 'nothing' | 'hello' | 'proof' = 'nothing';
  return {
    get isInProgress() {
      return sent === 'hello';
    },
    get hasSentCredential() {
      return sent === 'proof';
    },
    answer(challenges) {
      const token = challenges.find((each) => each.token !== undefined)?.token;
      if (sent === 'proof') return undefined;
      if (sent === 'nothing') {
        sent = 'hello';
        return `${word} ${negotiateMessage().toString('base64')}`;
      }
      // No part of the password has been sent yet: a proxy that does not continue does not support NTLM.
      if (token === undefined) throw new SchemeUnavailable(`it does not continue ${word}`);
      sent = 'proof';
      return `${word} ${answerChallenge(token, credentials).toString('base64')}`;
    },
  };
}

function answerChallenge(token: string, { user, password }: ProxyCredentials): Buffer {
  const freshness = { clientChallenge: randomBytes(8), nowMs: Date.now() };
  const { domain, name } = splitUser(user);
  try {
    const challenge = parseChallengeMessage(Buffer.from(token, 'base64'));
    return authenticateMessage(challenge, { domain, name, password: password.reveal() }, freshness);
  } catch (cause) {
    if (!(cause instanceof RangeError)) {
      throw new SchemeUnavailable('NTLM needs MD5, which is not allowed on this machine', undefined, {
        cause,
      });
    }
    throw new ClientError('PROXY_REFUSED', 'the proxy sent an NTLM challenge that cannot be read', { cause });
  }
}
