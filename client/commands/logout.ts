import { existsSync } from 'node:fs';
import { parseArgs } from '../../base/parse-args.ts';
import { requestJson, unexpected } from '../http/json-request.ts';
import type { Egress } from '../egress/egress.ts';
import { writeStderr } from '../errors/report.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import type { Environment } from '../os/xdg-paths.ts';
import { withRenewalLock } from '../credentials/refresh.ts';
import { readSignIn, removeSignIn, signInDirectory } from '../credentials/session-store.ts';
import type { SavedSession } from '../credentials/session-store.ts';
import { egressFor } from '../connect/gateway-egress.ts';
import { settingsWith } from './options.ts';

const logoutMs = 30_000;

/** Runs `postern logout`: deletes the sign-in here in any case, and ends it at the gateway. */
export async function logout(args: readonly string[], env: Environment): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { gateway: { type: 'string' }, 'ca-file': { type: 'string' } },
    allowPositionals: true,
  });
  if (positionals.length > 1)
    throw new ClientError('USAGE', 'logout takes one gateway', { hint: 'postern logout --help' });
  const settings = settingsWith({ ...values, gateway: positionals[0] ?? values.gateway }, env);
  const { gateway, paths } = settings;
  const directory = signInDirectory(paths.state, gateway);
  const signal = AbortSignal.timeout(logoutMs);
  // Without any sign-in so far the directory does not exist.
  const signIn = existsSync(directory)
    ? await withRenewalLock(directory, signal, async () => {
        const found = readUsable(paths.state, gateway);
        removeSignIn(directory);
        return found;
      })
    : undefined;
  if (signIn === undefined) {
    writeStderr(`postern: you were not signed in to ${gateway.href}\n`);
    return 0;
  }
  try {
    await revoke(signIn, egressFor(settings), signal);
  } catch (error) {
    const { code, message } = toFailure(error);
    throw new ClientError(code, `signed out on this machine, but not at the gateway: ${message}`, {
      cause: error,
      hint: '',
    });
  }
  writeStderr(`postern: signed out of ${gateway.href}\n`);
  return 0;
}

/** Undefined for files that cannot be read: they can be removed in any state. */
function readUsable(state: string, gateway: URL): SavedSession | undefined {
  try {
    return readSignIn(state, gateway);
  } catch {
    return undefined;
  }
}

/** Revokes the refresh token (RFC 7009), with which the gateway ends the whole sign-in. */
async function revoke(signIn: SavedSession, egress: Egress, signal: AbortSignal): Promise<void> {
  const { revocationEndpoint: url, refreshToken, accessToken, clientId } = signIn;
  if (url === undefined) throw new ClientError('HTTP_UNEXPECTED', 'it does not support revocation');
  const token = (refreshToken ?? accessToken).reveal();
  const hint = refreshToken === undefined ? 'access_token' : 'refresh_token';
  const form = { token, token_type_hint: hint, client_id: clientId };
  const reply = await requestJson(egress, { method: 'POST', url, form }, signal);
  reply.answer.response.destroy();
  if (reply.answer.status !== 200) throw unexpected(reply, `answered ${reply.answer.status}`);
}
