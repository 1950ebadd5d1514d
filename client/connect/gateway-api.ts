import { requestJson, readObject } from '../http/json-request.ts';
import type { JsonRequest } from '../http/json-request.ts';
import { refusal } from '../http/refusal.ts';
import { ClientError } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';
import { authHeaders, withCredential } from '../credentials/with-credential.ts';
import { egressFor } from './gateway-egress.ts';

/** From the first packet to the response, including a renewal of the credential. */
const apiMs = 30_000;

/** Sends a request to the gateway's API with the user's credential: GET, or POST with `json`. Throws as `withCredential` and `requestJson`, and the gateway's error. */
export async function requestApi(
  settings: ClientSettings,
  path: string,
  json?: object,
  signal = AbortSignal.timeout(apiMs),
): Promise<Readonly<Record<string, unknown>>> {
  const { gateway, token: sources } = settings;
  const egress = egressFor(settings);
  const url = new URL(path, gateway);
  const method = json === undefined ? 'GET' : 'POST';
  return withCredential({ sources, gateway, egress, signal }, async (credential) => {
    const headers = authHeaders(credential, method, url);
    const request: JsonRequest = { method, url, headers, ...(json === undefined ? {} : { json }) };
    const reply = await requestJson(egress, request, signal);
    const { answer, peer } = reply;
    if (answer.status === 200 || answer.status === 201) return readObject(reply);
    const failure = await refusal(answer, peer);
    // There is no upgrade here that could be refused.
    throw failure.code === 'UPGRADE_REFUSED' ? new ClientError('HTTP_UNEXPECTED', failure.message) : failure;
  });
}

/** The response of `api/access`: the user's identity and permissions. Members of another type are left out. */
export interface AccessResponse {
  readonly subject?: string;
  readonly groups: readonly string[];
  readonly until?: string;
  readonly hosts: readonly { readonly pattern: string }[];
  readonly sessions: readonly ListedSession[];
  /** The client's address as the gateway sees it. */
  readonly client?: string;
}

/** A tunnel of the user, open or waiting for its client. */
export interface ListedSession {
  readonly id: string;
  readonly target?: string;
  readonly since?: string;
  /** `detached`: it waits for its client; a gateway that does not say so lists open ones only. */
  readonly state?: 'open' | 'detached';
  /** Since when it is detached. */
  readonly detachedSince?: string;
}

/** Requests the user's identity, reachable hosts and open tunnels. Throws as `requestApi`. */
export async function requestAccess(settings: ClientSettings, signal?: AbortSignal): Promise<AccessResponse> {
  const answer = await requestApi(settings, 'api/access', undefined, signal);
  const { subject, groups, until, hosts, sessions, client } = answer;
  return {
    ...(typeof subject === 'string' ? { subject } : {}),
    ...(typeof client === 'string' ? { client } : {}),
    groups: list(groups).filter((group) => typeof group === 'string'),
    ...timeOf('until', until),
    hosts: list(hosts).flatMap((host) => {
      const { pattern } = (host ?? {}) as Readonly<Record<string, unknown>>;
      return typeof pattern === 'string' ? [{ pattern }] : [];
    }),
    sessions: list(sessions).flatMap((session) => {
      const { id, target, since, state, detachedSince } = (session ?? {}) as Readonly<
        Record<string, unknown>
      >;
      if (typeof id !== 'string') return [];
      return [
        {
          id,
          ...(typeof target === 'string' ? { target } : {}),
          ...timeOf('since', since),
          ...(state === 'open' || state === 'detached' ? { state } : {}),
          ...timeOf('detachedSince', detachedSince),
        },
      ];
    }),
  };
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [];
}

function timeOf<Key extends string>(key: Key, value: unknown): { readonly [K in Key]?: string } {
  const time = typeof value === 'string' || typeof value === 'number' ? new Date(value) : undefined;
  if (time === undefined || Number.isNaN(time.getTime())) return {};
  return { [key]: time.toISOString() } as { readonly [K in Key]: string };
}
