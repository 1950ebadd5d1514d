import type { OutgoingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Target } from '../../protocol/target.ts';
import { describeServer } from './refusal.ts';
import { gatewayTarget } from './gateway-url.ts';
import { sendRequest } from './exchange.ts';
import type { HttpResponse } from './exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { deadlineSignal, onAbort } from '../../base/deadline.ts';

/** From the first packet to the last byte of the response. */
export const requestMs = 15_000;
const maxBodyBytes = 256 * 1024;

/** Opens connections: an `Egress`. The caller of `connect` owns the socket, which has an `error` listener already. */
export interface Connector {
  connect(host: Target, signal: AbortSignal): Promise<Socket>;
}

/** A request that is not for a tunnel. */
export interface JsonRequest {
  readonly method: 'GET' | 'POST';
  readonly url: URL;
  readonly headers?: OutgoingHttpHeaders;
  /** Sent as a form. */
  readonly form?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly json?: object;
}

/** A response whose body is still to be read. */
export interface JsonResponse {
  readonly answer: HttpResponse;
  /** The host that was asked, for messages. */
  readonly peer: string;
}

/**
 * Sends a request on a connection of its own, by the same egress as tunnels; redirects are not followed. The caller reads
 * or destroys the body afterwards. Throws what `egress` throws, `HTTP_UNEXPECTED` and `GATEWAY_TIMEOUT`.
 */
export async function requestJson(
  egress: Connector,
  request: JsonRequest,
  signal: AbortSignal,
): Promise<JsonResponse> {
  const { method, url } = request;
  const limit = deadlineSignal(signal, requestMs);
  const socket = await egress.connect(gatewayTarget(url), limit);
  const [type, body] = encode(request);
  const headers = {
    Host: url.host,
    Accept: 'application/json',
    ...(type === undefined ? {} : { 'Content-Type': type }),
    ...request.headers,
  };
  const httpRequest = {
    method,
    path: `${url.pathname}${url.search}`,
    headers,
    peer: url.hostname,
    answerMs: 2 * requestMs,
    ...(body === undefined ? {} : { body }),
  };
  const answer = await sendRequest(socket, httpRequest, limit);
  // The deadline covers the body too.
  onAbort(limit, () => socket.destroy());
  if (!answer.switched) return { answer, peer: url.hostname };
  socket.destroy();
  throw unexpected({ answer, peer: url.hostname }, 'switched protocols');
}

function encode({ form, json }: JsonRequest): [type?: string, body?: string] {
  if (form !== undefined)
    return ['application/x-www-form-urlencoded', new URLSearchParams({ ...form }).toString()];
  return json === undefined ? [] : ['application/json', JSON.stringify(json)];
}

/** Reads the body as a JSON object and closes the connection. Throws `HTTP_UNEXPECTED`. */
export async function readObject(reply: JsonResponse): Promise<Readonly<Record<string, unknown>>> {
  const { response } = reply.answer;
  try {
    if (!/^application\/(?:[a-z.-]+\+)?json\s*(?:;|$)/i.test(response.headers['content-type'] ?? '')) {
      throw unexpected(reply, `answered ${reply.answer.status} without JSON`);
    }
    const value = await readValue(reply);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Readonly<Record<string, unknown>>;
    throw unexpected(reply, 'answered with JSON that is not an object');
  } finally {
    response.destroy();
  }
}

async function readValue(reply: JsonResponse): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of reply.answer.response) {
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > maxBodyBytes) throw new RangeError(`more than ${maxBodyBytes} bytes`);
    }
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch (cause) {
    throw unexpected(reply, 'answered with invalid JSON', cause);
  }
}

/** The error of a response other than the expected one; `what` continues a sentence that begins with the server's name. */
export function unexpected({ answer, peer }: JsonResponse, what: string, cause?: unknown): ClientError {
  return new ClientError('HTTP_UNEXPECTED', `${describeServer(answer.response, peer)} ${what}`, { cause });
}
