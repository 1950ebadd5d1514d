import type { OutgoingHttpHeaders } from 'node:http';
import { describeServer } from './refusal.ts';
import { gatewayTarget } from './gateway-url.ts';
import type { Egress } from '../egress/egress.ts';
import { sendRequest } from './exchange.ts';
import type { HttpResponse } from './exchange.ts';
import { ClientError } from '../errors/failure.ts';
import { deadlineSignal } from '../../base/deadline.ts';

/** From the first packet to the last byte of an answer. */
export const askMs = 15_000;
const maxBodyBytes = 256 * 1024;

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

/** An answer, with its body still to be read. */
export interface JsonResponse {
  readonly answer: HttpResponse;
  /** Who was asked, for messages. */
  readonly peer: string;
}

/**
 * Asks on a connection of its own, the same way out as tunnels take; redirections are not followed. Read or destroy
 * the body afterwards. Throws what `egress` throws, `HTTP_UNEXPECTED` and `GATEWAY_TIMEOUT`.
 */
export async function requestJson(
  egress: Egress,
  request: JsonRequest,
  signal: AbortSignal,
): Promise<JsonResponse> {
  const { method, url } = request;
  const limit = deadlineSignal(signal, askMs);
  const socket = await egress.connect(gatewayTarget(url), limit);
  const [type, body] = encode(request);
  const headers = {
    Host: url.host,
    Accept: 'application/json',
    ...(type === undefined ? {} : { 'Content-Type': type }),
    ...request.headers,
  };
  const question = {
    method,
    path: `${url.pathname}${url.search}`,
    headers,
    peer: url.hostname,
    answerMs: 2 * askMs,
    ...(body === undefined ? {} : { body }),
  };
  const answer = await sendRequest(socket, question, limit);
  // The socket goes away with the wait also while the body is read.
  limit.addEventListener('abort', () => socket.destroy(), { once: true });
  if (!answer.switched) return { answer, peer: url.hostname };
  socket.destroy();
  throw unexpected({ answer, peer: url.hostname }, 'switched protocols');
}

function encode({ form, json }: JsonRequest): [type?: string, body?: string] {
  if (form !== undefined)
    return ['application/x-www-form-urlencoded', new URLSearchParams({ ...form }).toString()];
  return json === undefined ? [] : ['application/json', JSON.stringify(json)];
}

/** The object that a body holds as JSON; the connection ends with it. Throws `HTTP_UNEXPECTED`. */
export async function readObject(reply: JsonResponse): Promise<Readonly<Record<string, unknown>>> {
  const { response } = reply.answer;
  try {
    if (!/^application\/(?:[a-z.-]+\+)?json\s*(?:;|$)/i.test(response.headers['content-type'] ?? '')) {
      throw unexpected(reply, `answered ${reply.answer.status} without JSON`);
    }
    const value = await readValue(reply);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Readonly<Record<string, unknown>>;
    throw unexpected(reply, 'answered with JSON of another shape');
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
    throw unexpected(reply, 'answered with JSON that cannot be read', cause);
  }
}

/** That something other than what we asked for came back. */
export function unexpected({ answer, peer }: JsonResponse, what: string, cause?: unknown): ClientError {
  return new ClientError('HTTP_UNEXPECTED', `${describeServer(answer.response, peer)} ${what}`, { cause });
}
