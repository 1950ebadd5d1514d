import { request as plainRequest } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, RequestOptions } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { rootCertificates } from 'node:tls';
import { isAddress } from '../../protocol/target.ts';
import type { GatewayDoctorContext } from './check.ts';

/** A request from outside. */
export interface ProbeRequest {
  readonly method?: 'GET' | 'CONNECT';
  /** Below the prefix, unless it begins with a slash; an authority for CONNECT. */
  readonly path: string;
  readonly headers?: OutgoingHttpHeaders;
  /** The address it comes from. */
  readonly from?: string;
  /** We say right away that nothing more comes. */
  readonly endsEarly?: boolean;
}

/** What came back. */
export interface ProbeResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Whether all of it has come. */
  readonly isWhole: boolean;
  /** From the first byte of the body to its end, or to the cut. */
  readonly spreadMs: number;
  /** The address it was asked from. */
  readonly from: string;
}

const maxBytes = 256 * 1024;

/** Asks as anybody could, through whatever stands before the gateway. Rejects with the error of the connection. */
export function probe(
  context: GatewayDoctorContext,
  question: ProbeRequest,
  signal: AbortSignal,
): Promise<ProbeResponse> {
  const { url, authorities } = context;
  const { method = 'GET', path, headers = {}, from, endsEarly } = question;
  const whole = method === 'CONNECT' || path.startsWith('/') ? path : `${url.pathname}${path}`;
  const host = url.hostname.replaceAll(/^\[|\]$/g, '');
  const options: RequestOptions & { ca?: string[]; servername?: string } = {
    method,
    host,
    // The field Host of a CONNECT names somebody else.
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
    const asking = (url.protocol === 'https:' ? tlsRequest : plainRequest)(options);
    let askedFrom = '';
    asking.once('socket', (socket) => {
      socket.once('connect', () => (askedFrom = socket.localAddress ?? ''));
      if (endsEarly === true) asking.once('finish', () => socket.end());
    });
    asking.once('error', reject);
    asking.once('response', (response) => {
      void readBody(response).then((read) => resolve({ ...headOf(response), from: askedFrom, ...read }));
    });
    // The refusal of a CONNECT has a body too, which nobody needs.
    const switched = (response: IncomingMessage, socket: { destroy(): unknown }): void => {
      socket.destroy();
      resolve({ ...headOf(response), from: askedFrom, body: '', isWhole: true, spreadMs: 0 });
    };
    asking.once('upgrade', switched).once('connect', switched);
    asking.end();
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
    // What has come is told.
  }
  const spreadMs = firstAt === undefined ? 0 : performance.now() - firstAt;
  return { body: Buffer.concat(chunks).toString(), isWhole: response.complete, spreadMs };
}

/** The code in a refusal of the gateway itself; undefined for anybody else's. */
export function codeIn({ headers, body }: ProbeResponse): string | undefined {
  if (headers['content-type']?.startsWith('application/problem+json') !== true) return undefined;
  try {
    const { code } = JSON.parse(body) as { code?: unknown };
    return typeof code === 'string' ? code : undefined;
  } catch {
    return undefined;
  }
}
