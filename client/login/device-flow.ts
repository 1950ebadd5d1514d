import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { requestJson, readObject, unexpected } from '../http/json-request.ts';
import { ClientError } from '../errors/failure.ts';
import { version } from '../os/version.ts';
import type { AuthorizationServer } from '../oauth/authorization-server.ts';
import type { SignInWays } from './authorization-code-flow.ts';
import { requestTokens } from '../oauth/token-request.ts';
import type { IssuedTokens } from '../oauth/token-request.ts';
import { timeLimit } from '../../stream/time-limit.ts';

const grantType = 'urn:ietf:params:oauth:grant-type:device_code';
/** RFC 8628 §3.2 and §3.5. */
const usualIntervalMs = 5000;
const slowDownMs = 5000;

/**
 * Signs in with a browser anywhere: the person types a code there (RFC 8628). Throws `SIGN_IN_FAILED` when the gateway
 * does not offer it or the person says no, `SIGN_IN_TIMEOUT` when the code has expired.
 */
export async function signInByDevice(server: AuthorizationServer, ways: SignInWays): Promise<IssuedTokens> {
  const { egress, key, signal, invite } = ways;
  const device = await beginDevice(server, ways);
  invite(device.url, device.userCode);
  const until = timeLimit(signal, device.lifeMs);
  for (let intervalMs = device.intervalMs; ;) {
    await delay(intervalMs, undefined, { signal: until }).catch(() => {});
    signal.throwIfAborted();
    if (until.aborted) throw expired();
    const answer = await requestTokens(
      { endpoint: server.tokenEndpoint, ...server, key },
      { grant_type: grantType, device_code: device.deviceCode },
      { egress, signal },
    );
    if (answer.kind === 'issued') return answer;
    if (answer.error === 'slow_down') intervalMs += slowDownMs;
    else if (answer.error === 'expired_token') throw expired();
    else if (answer.error === 'access_denied')
      throw new ClientError('SIGN_IN_FAILED', 'the sign-in was refused in the browser');
    else if (answer.error !== 'authorization_pending')
      throw new ClientError('SIGN_IN_FAILED', `the gateway does not accept the sign-in: ${answer.error}`);
  }
}

interface Device {
  readonly deviceCode: string;
  readonly userCode: string;
  readonly url: URL;
  readonly lifeMs: number;
  readonly intervalMs: number;
}

async function beginDevice(server: AuthorizationServer, { egress, signal }: SignInWays): Promise<Device> {
  const { deviceAuthorizationEndpoint: url, clientId, scope } = server;
  if (url === undefined)
    throw new ClientError('SIGN_IN_FAILED', 'this gateway does not let other devices approve a sign-in', {
      hint: 'postern login',
    });
  const request = {
    method: 'POST',
    url,
    form: { client_id: clientId, scope },
    // The page where the code is typed shows who asks.
    headers: {
      'User-Agent': `postern/${version} (${hostname()
        .replaceAll(/[^\w.-]/g, '')
        .slice(0, 64)})`,
    },
  } as const;
  const reply = await requestJson(egress, request, signal);
  const body = await readObject(reply);
  if (reply.answer.status !== 200) throw unexpected(reply, `answered ${reply.answer.status} to a new device`);
  const { device_code: deviceCode, user_code: userCode, verification_uri: text } = body;
  const { expires_in: life, interval } = body;
  const isComplete = typeof deviceCode === 'string' && typeof text === 'string' && URL.canParse(text);
  // The code goes to the terminal.
  if (
    !isComplete ||
    typeof userCode !== 'string' ||
    !/^[\x21-\x7e ]{4,40}$/.test(userCode) ||
    !(Number(life) > 0)
  )
    throw unexpected(reply, 'answered a new device with something else');
  const page = new URL(text);
  if (page.origin !== url.origin)
    throw new ClientError('SIGN_IN_FAILED', 'the gateway sends its people somewhere else to type the code');
  return {
    deviceCode,
    userCode,
    url: page,
    lifeMs: Math.min(Number(life), 1800) * 1000,
    intervalMs:
      typeof interval === 'number' && interval >= 1 ? Math.min(interval, 60) * 1000 : usualIntervalMs,
  };
}

function expired(): ClientError {
  return new ClientError('SIGN_IN_TIMEOUT', 'nobody typed the code in time', { hint: 'postern login --device' });
}
