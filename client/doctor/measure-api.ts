import { onAbort } from '../../base/deadline.ts';
import { gatewayTarget } from '../http/gateway-url.ts';
import { sendRequest } from '../http/exchange.ts';
import type { HttpResponse } from '../http/exchange.ts';
import { authHeaders, withCredential } from '../credentials/with-credential.ts';
import type { ClientDoctorContext } from './check.ts';

/**
 * Calls `api/measure` of the gateway, which sends bytes, receives bytes or keeps silent as requested. Undefined when
 * this gateway does not have it. The caller destroys the response, and the connection with it.
 */
export async function measure(
  { settings, egress }: ClientDoctorContext,
  { query, body, answerMs }: Measurement,
  signal: AbortSignal,
): Promise<HttpResponse | undefined> {
  const { gateway, token: sources } = settings;
  const url = new URL('api/measure', gateway);
  url.search = new URLSearchParams(query).toString();
  const method = body === undefined ? 'GET' : 'POST';
  return withCredential({ sources, gateway, egress, signal }, async (pass) => {
    const socket = await egress.connect(gatewayTarget(gateway), signal);
    onAbort(signal, () => socket.destroy());
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

/** One measurement. */
export interface Measurement {
  readonly query: Readonly<Record<string, string>>;
  /** The bytes to send; absent: the gateway sends. */
  readonly body?: string;
  readonly answerMs?: number;
}
