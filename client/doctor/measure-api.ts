import { gatewayTarget } from '../http/gateway-url.ts';
import { sendRequest } from '../http/exchange.ts';
import type { HttpResponse } from '../http/exchange.ts';
import { authHeaders, withCredential } from '../credentials/with-credential.ts';
import type { DoctorContext } from './check.ts';

/**
 * Asks the gateway for `api/measure`, which sends bytes, takes bytes or keeps silent as it is asked. Undefined when
 * this gateway does not know it. The caller destroys the response, and the connection with it.
 */
export async function measure(
  { settings, egress }: DoctorContext,
  { query, body, answerMs }: Measurement,
  signal: AbortSignal,
): Promise<HttpResponse | undefined> {
  const { gateway, token: sources } = settings;
  const url = new URL('api/measure', gateway);
  url.search = new URLSearchParams(query).toString();
  const method = body === undefined ? 'GET' : 'POST';
  return withCredential({ sources, gateway, egress, signal }, async (pass) => {
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    signal.addEventListener('abort', () => socket.destroy(), { once: true });
    const headers = {
      Host: gateway.host,
      ...authHeaders(pass, method, url),
      ...(body === undefined ? {} : { 'Content-Type': 'application/octet-stream' }),
    };
    const path = `${url.pathname}${url.search}`;
    const question = {
      method,
      path,
      headers,
      peer: gateway.host,
      ...(answerMs === undefined ? {} : { answerMs }),
    } as const;
    const answer = await sendRequest(socket, body === undefined ? question : { ...question, body }, signal);
    if (answer.status === 200) return answer;
    answer.response.destroy();
    return undefined;
  });
}

/** One request for it. */
export interface Measurement {
  readonly query: Readonly<Record<string, string>>;
  /** What is sent to it; absent: it sends. */
  readonly body?: string;
  readonly answerMs?: number;
}
