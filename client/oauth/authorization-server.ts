import { requestJson, readObject, unexpected } from '../http/json-request.ts';
import type { Egress } from '../egress/egress.ts';
import { challengeOf } from '../http/refusal.ts';
import { ClientError } from '../errors/failure.ts';
import { clockOffset } from './dpop.ts';

/** The authorization server of a gateway (RFC 8414). All its URLs are within the gateway's own URL. */
export interface AuthorizationServerMetadata {
  readonly issuer: string;
  readonly clientId: string;
  readonly scope: string;
  readonly authorizationEndpoint: URL;
  readonly tokenEndpoint: URL;
  readonly deviceAuthorizationEndpoint?: URL;
  readonly revocationEndpoint?: URL;
  /** How far its clock is ahead of the local one. */
  readonly clockOffsetMs: number;
}

/**
 * Discovers the authorization server of the gateway. Throws `SIGN_IN_FAILED` for a gateway without sign-in, or with
 * endpoints elsewhere, `CONFIG_INVALID` for a gateway whose public URL is another one, and as `requestJson`.
 */
export async function findAuthorizationServer(
  gateway: URL,
  egress: Egress,
  signal: AbortSignal,
): Promise<AuthorizationServerMetadata> {
  const read = (url: URL): Promise<Document> => readDocument({ gateway, egress, signal }, url);
  let document: Document;
  try {
    document = await read(new URL('.well-known/postern', gateway));
  } catch (error) {
    throw (await knownElsewhere(error, gateway, read)) ?? error;
  }
  const { issuer, clientId } = readDiscovery(document.value, gateway);
  const base = gatewayUrl(gateway, issuer, 'issuer').href.replace(/\/$/, '');
  const { value } = await read(new URL(`${base}/.well-known/openid-configuration`));
  if (value['issuer'] !== issuer)
    throw new ClientError(
      'SIGN_IN_FAILED',
      `the authorization server of ${gateway.href} names another issuer`,
    );
  const endpoint = (key: string): URL => gatewayUrl(gateway, value[key], key);
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

/** The usual path is forgotten easily: where a gateway answers there, the error names it. */
async function knownElsewhere(
  reason: unknown,
  gateway: URL,
  read: (url: URL) => Promise<Document>,
): Promise<ClientError | undefined> {
  const usual = new URL('/ssh/', gateway);
  if (!(reason instanceof ClientError) || reason.code !== 'HTTP_UNEXPECTED') return undefined;
  if (usual.href === gateway.href) return undefined;
  const found = await read(new URL('.well-known/postern', usual)).catch(() => undefined);
  if (found?.value['publicUrl'] !== usual.href) return undefined;
  return new ClientError('HTTP_UNEXPECTED', `${reason.message}; there is one at ${usual.href}`, {
    cause: reason,
    hint: `postern login ${usual.href}`,
  });
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

/** Reads what a sign-in needs from the gateway's discovery document. */
function readDiscovery(
  { publicUrl, signIn }: Document['value'],
  gateway: URL,
): { readonly issuer: string; readonly clientId: string } {
  if (typeof publicUrl !== 'string' || !URL.canParse(publicUrl)) throw noGateway(gateway);
  const name = new URL(publicUrl);
  if (name.href !== gateway.href) {
    // A DPoP proof contains the URL, and the gateway compares it with its own.
    throw new ClientError(
      'CONFIG_INVALID',
      `the public URL of the gateway at ${gateway.href} is ${name.href}`,
      {
        hint: `postern login ${name.href}`,
      },
    );
  }
  const { issuer, clientId } = (signIn ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof issuer === 'string' && typeof clientId === 'string') return { issuer, clientId };
  throw new ClientError('SIGN_IN_FAILED', `${gateway.href} offers no sign-in; it accepts tokens only`, {
    hint: 'export POSTERN_TOKEN_FILE=/path/to/token',
  });
}

/** `text` as a URL within the gateway's own; credentials must not be sent anywhere else. Throws `SIGN_IN_FAILED`. */
function gatewayUrl(gateway: URL, text: unknown, what: string): URL {
  const url = typeof text === 'string' && URL.canParse(text) ? new URL(text) : undefined;
  if (url?.origin === gateway.origin && url.pathname.startsWith(gateway.pathname) && url.username === '')
    return url;
  throw new ClientError('SIGN_IN_FAILED', `the ${what} of ${gateway.href} is not within the gateway's URL`);
}

function wantedScopes(supported: unknown): string {
  const known: readonly unknown[] = Array.isArray(supported) ? supported : [];
  return ['openid', 'offline_access'].filter((scope) => known.includes(scope)).join(' ');
}

function noGateway(gateway: URL): ClientError {
  return new ClientError('HTTP_UNEXPECTED', `there is no postern gateway at ${gateway.href}`);
}
