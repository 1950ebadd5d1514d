import { requestJson, readObject, unexpected } from '../http/json-request.ts';
import type { Egress } from '../egress/egress.ts';
import { challengeOf } from '../http/refusal.ts';
import { ClientError } from '../errors/failure.ts';
import { clockOffset } from './clock-offset.ts';

/** Where and how one signs in at a gateway. All its URLs are the gateway's own. */
export interface AuthorizationServerMetadata {
  readonly issuer: string;
  readonly clientId: string;
  readonly scope: string;
  readonly authorizationEndpoint: URL;
  readonly tokenEndpoint: URL;
  readonly deviceAuthorizationEndpoint?: URL;
  readonly revocationEndpoint?: URL;
  /** How far its clock is ahead of the one here. */
  readonly clockOffsetMs: number;
}

/**
 * Asks the gateway where one signs in. Throws `SIGN_IN_FAILED` for a gateway without sign-in, or one that sends its
 * people elsewhere, `CONFIG_INVALID` for a gateway that goes by another URL, and what `ask` throws.
 */
export async function findAuthorizationServer(
  gateway: URL,
  egress: Egress,
  signal: AbortSignal,
): Promise<AuthorizationServerMetadata> {
  const read = (url: URL): Promise<Document> => readDocument({ gateway, egress, signal }, url);
  const document = await read(new URL('.well-known/postern', gateway));
  const { issuer, clientId } = readDiscovery(document.value, gateway);
  const base = ours(gateway, issuer, 'issuer').href.replace(/\/$/, '');
  const { value } = await read(new URL(`${base}/.well-known/openid-configuration`));
  if (value['issuer'] !== issuer)
    throw new ClientError('SIGN_IN_FAILED', `the sign-in of ${gateway.href} does not say who it is`);
  const endpoint = (key: string): URL => ours(gateway, value[key], key);
  return {
    issuer,
    clientId,
    scope: wantedScopes(value['scopes_supported']),
    authorizationEndpoint: endpoint('authorization_endpoint'),
    tokenEndpoint: endpoint('token_endpoint'),
    ...(value['device_authorization_endpoint'] === undefined
      ? {}
      : { deviceAuthorizationEndpoint: endpoint('device_authorization_endpoint') }),
    ...(value['revocation_endpoint'] === undefined
      ? {}
      : { revocationEndpoint: endpoint('revocation_endpoint') }),
    clockOffsetMs: document.clockOffsetMs,
  };
}

interface Document {
  readonly value: Readonly<Record<string, unknown>>;
  readonly clockOffsetMs: number;
}

async function readDocument(
  egressRequest: { readonly gateway: URL; readonly egress: Egress; readonly signal: AbortSignal },
  url: URL,
): Promise<Document> {
  const reply = await requestJson(egressRequest.egress, { method: 'GET', url }, egressRequest.signal);
  const { response, status } = reply.answer;
  if (status === 200)
    return { value: await readObject(reply), clockOffsetMs: clockOffset(challengeOf(response)) };
  response.destroy();
  throw status === 404 ? noGateway(egressRequest.gateway) : unexpected(reply, `answered ${status}`);
}

/** What the gateway says of itself, as far as a sign-in needs it. */
function readDiscovery(
  { publicUrl, signIn }: Document['value'],
  gateway: URL,
): { readonly issuer: string; readonly clientId: string } {
  if (typeof publicUrl !== 'string' || !URL.canParse(publicUrl)) throw noGateway(gateway);
  const name = new URL(publicUrl);
  if (name.href !== gateway.href) {
    // A proof names the URL that it is for, and the gateway compares it with its own.
    throw new ClientError('CONFIG_INVALID', `the gateway at ${gateway.href} calls itself ${name.href}`, {
      hint: `postern login ${name.href}`,
    });
  }
  const { issuer, clientId } = (signIn ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof issuer === 'string' && typeof clientId === 'string') return { issuer, clientId };
  throw new ClientError('SIGN_IN_FAILED', `${gateway.href} has no sign-in; it takes tokens only`, {
    hint: 'export POSTERN_TOKEN_FILE=/path/to/token',
  });
}

/** `text` as a URL of the gateway itself: what is shown and sent there must not go anywhere else. */
function ours(gateway: URL, text: unknown, what: string): URL {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined;
  if (url?.origin === gateway.origin && url.pathname.startsWith(gateway.pathname) && url.username === '')
    return url;
  throw new ClientError(
    'SIGN_IN_FAILED',
    `the sign-in of ${gateway.href} names another place as its ${what}`,
  );
}

function wantedScopes(supported: unknown): string {
  const known: readonly unknown[] = Array.isArray(supported) ? supported : [];
  return ['openid', 'offline_access'].filter((scope) => known.includes(scope)).join(' ');
}

function noGateway(gateway: URL): ClientError {
  return new ClientError('HTTP_UNEXPECTED', `there is no postern gateway at ${gateway.href}`);
}
