import { randomBytes } from 'node:crypto';
import { ClientError } from '../../errors/failure.ts';
import { splitUser } from './credentials.ts';
import type { Credentials } from './credentials.ts';
import { authenticateMessage, negotiateMessage, parseChallengeMessage } from './ntlm-message.ts';
import { SchemeUnavailable } from './scheme.ts';
import type { AuthExchange } from './scheme.ts';

/**
 * NTLMv2: three messages, all on one connection. `Negotiate` takes them too at most proxies of Windows, which helps
 * where only that is offered and there is no Kerberos here.
 */
export function ntlm(credentials: Credentials, word: 'NTLM' | 'Negotiate' = 'NTLM'): AuthExchange {
  let said: 'nothing' | 'hello' | 'proof' = 'nothing';
  return {
    get isInProgress() {
      return said === 'hello';
    },
    get hasSentCredential() {
      return said === 'proof';
    },
    answer(challenges) {
      const token = challenges.find((each) => each.token !== undefined)?.token;
      if (said === 'proof') return undefined;
      if (said === 'nothing') {
        said = 'hello';
        return `${word} ${negotiateMessage().toString('base64')}`;
      }
      // Nothing of the password has been said yet: whoever does not go on does not speak this.
      if (token === undefined) throw new SchemeUnavailable(`it does not go on with ${word}`);
      said = 'proof';
      return `${word} ${answerChallenge(token, credentials).toString('base64')}`;
    },
  };
}

function answerChallenge(token: string, { user, password }: Credentials): Buffer {
  const freshness = { clientChallenge: randomBytes(8), nowMs: Date.now() };
  const { domain, name } = splitUser(user);
  try {
    const challenge = parseChallengeMessage(Buffer.from(token, 'base64'));
    return authenticateMessage(challenge, { domain, name, password: password.reveal() }, freshness);
  } catch (cause) {
    if (!(cause instanceof RangeError)) {
      throw new SchemeUnavailable('NTLM needs MD5, which is not allowed on this machine', undefined, { cause });
    }
    throw new ClientError('PROXY_REFUSED', 'the proxy sent an NTLM challenge that cannot be read', { cause });
  }
}
