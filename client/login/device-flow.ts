import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { requestJson, readObject, unexpected } from '../http/json-request.ts';
import { ClientError } from '../errors/failure.ts';
import { userAgent } from '../os/version.ts';
import type { AuthorizationServerMetadata } from '../oauth/authorization-server.ts';
import type { LoginFlowOptions } from './authorization-code-flow.ts';
import { requestTokens } from '../oauth/token-request.ts';
import type { IssuedTokens } from '../oauth/token-request.ts';
import { deadlineSignal } from '../../base/deadline.ts';

const grantType = 'urn:ietf:params:oauth:grant-type:device_code';
/** RFC 8628 §3.2 and §3.5. */
const usualIntervalMs = 5000;
const slowDownMs = 5000;

/**
 * Signs in with the browser of any device, where the person types a code (RFC 8628). Throws `SIGN_IN_FAILED` when the
 * gateway does not offer it or the person denies it, `SIGN_IN_TIMEOUT` when the code has expired.
 */
export async function signInByDevice(
  server: AuthorizationServerMetadata,
  options: LoginFlowOptions,
): Promise<IssuedTokens> {
  const { egress, key, signal, invite } = options;
  const device = await startDevice(server, options);
  invite(device.url, device.userCode);
  const until = deadlineSignal(signal, device.lifeMs);
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
      throw new ClientError('SIGN_IN_FAILED', `the gateway did not accept the sign-in: ${answer.error}`);
  }
}

interface Device {
  readonly deviceCode: string;
  readonly userCode: string;
  readonly url: URL;
  readonly lifeMs: number;
  readonly intervalMs: number;
}

async function startDevice(
  server: AuthorizationServerMetadata,
  { egress, signal }: LoginFlowOptions,
): Promise<Device> {
  const { deviceAuthorizationEndpoint: url, clientId, scope } = server;
  if (url === undefined)
    throw new ClientError('SIGN_IN_FAILED', 'this gateway does not offer sign-in with a code (device flow)', {
      hint: 'postern login',
    });
  const request = {
    method: 'POST',
    url,
    form: { client_id: clientId, scope },
    // The page where the code is typed shows this.
    headers: {
      'User-Agent': `${userAgent} (${hostname()
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
  // The code is written to the terminal.
  if (
    !isComplete ||
    typeof userCode !== 'string' ||
    !/^[\x21-\x7e ]{4,40}$/.test(userCode) ||
    !(Number(life) > 0)
  )
    throw unexpected(reply, 'sent an invalid device authorization response');
  const page = new URL(text);
  if (page.origin !== url.origin)
    throw new ClientError('SIGN_IN_FAILED', 'the page for the code is not on the gateway');
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
  return new ClientError('SIGN_IN_TIMEOUT', 'the code was not entered in time', {
    hint: 'postern login --device',
  });
}
