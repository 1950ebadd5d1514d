import { request as plainRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, RequestOptions } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { rootCertificates } from 'node:tls';
import { isAddress } from '../../protocol/target.ts';
import type { GatewayDoctorContext } from './check.ts';

/** A request as a client outside would make it. */
export interface ProbeRequest {
  readonly method?: 'GET' | 'CONNECT';
  /** Below the prefix, unless it begins with a slash; an authority for CONNECT. */
  readonly path: string;
  readonly headers?: OutgoingHttpHeaders;
  /** The address it comes from. */
  readonly from?: string;
  /** End the sending direction right after the request. */
  readonly endsEarly?: boolean;
}

/** The response. */
export interface ProbeResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Whether the body is complete. */
  readonly isWhole: boolean;
  /** From the first byte of the body to its end, or to the cut, in milliseconds. */
  readonly spreadMs: number;
  /** The local address of the request. */
  readonly from: string;
}

const maxBytes = 256 * 1024;

/** Sends a request as any client can, through the web server before the gateway. Rejects with the error of the connection. */
export function probe(
  context: GatewayDoctorContext,
  request: ProbeRequest,
  signal: AbortSignal,
): Promise<ProbeResponse> {
  const { url, authorities } = context;
  const { method = 'GET', path, headers = {}, from, endsEarly } = request;
  const whole = method === 'CONNECT' || path.startsWith('/') ? path : `${url.pathname}${path}`;
  const host = url.hostname.replaceAll(/^\[|\]$/g, '');
  const options: RequestOptions & { ca?: string[]; servername?: string } = {
    method,
    host,
    // The Host field of a CONNECT names the target.
    ...(isAddress(host) ? {} : { servername: host }),
    port: url.port || (url.protocol === 'https:' ? 443 : 80),
    path: whole,
    headers: { 'User-Agent': 'postern-gateway-doctor', ...headers },
    agent: false,
    signal,
    ...(from === undefined ? {} : { localAddress: from }),
  };
  if (authorities.length > 0) options.ca = [...rootCertificates, ...authorities];
  return new Promise((resolve, reject) => {
    const outgoing = (url.protocol === 'https:' ? tlsRequest : plainRequest)(options);
    let localAddress = '';
    outgoing.once('socket', (socket) => {
      socket.once('connect', () => (localAddress = socket.localAddress ?? ''));
      if (endsEarly === true) outgoing.once('finish', () => socket.end());
    });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      void readBody(response).then((read) => resolve({ ...headOf(response), from: localAddress, ...read }));
    });
    // The refusal of a CONNECT has a body too, which is not needed.
    const switched = (response: IncomingMessage, socket: { destroy(): unknown }): void => {
      socket.destroy();
      resolve({ ...headOf(response), from: localAddress, body: '', isWhole: true, spreadMs: 0 });
    };
    outgoing.once('upgrade', switched).once('connect', switched);
    outgoing.end();
  });
}

function headOf({ statusCode = 0, headers }: IncomingMessage): Pick<ProbeResponse, 'status' | 'headers'> {
  return { status: statusCode, headers };
}

async function readBody(
  response: IncomingMessage,
): Promise<Pick<ProbeResponse, 'body' | 'isWhole' | 'spreadMs'>> {
  const chunks: Buffer[] = [];
  let size = 0;
  let firstAt: number | undefined;
  try {
    for await (const chunk of response) {
      firstAt ??= performance.now();
      chunks.push(chunk as Buffer);
      size += (chunk as Buffer).length;
      if (size > maxBytes) break;
    }
  } catch {
    // The result has what arrived.
  }
  const spreadMs = firstAt === undefined ? 0 : performance.now() - firstAt;
  return { body: Buffer.concat(chunks).toString(), isWhole: response.complete, spreadMs };
}

/** The error code in a refusal of the gateway itself; undefined for a response of another server. */
export function codeIn({ headers, body }: ProbeResponse): string | undefined {
  if (headers['content-type']?.startsWith('application/problem+json') !== true) return undefined;
  try {
    const { code } = JSON.parse(body) as { code?: unknown };
    return typeof code === 'string' ? code : undefined;
  } catch {
    return undefined;
  }
}
