import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { isTunnelErrorCode } from '../../protocol/errors.ts';
import type { TunnelError, TunnelErrorCode } from '../../protocol/errors.ts';
import type { HttpResponse } from './exchange.ts';
import { ClientError } from '../errors/failure.ts';
import type { GatewayChallenge } from '../errors/failure.ts';
import { printable } from '../os/terminal.ts';

const maxProblemBytes = 64 * 1024;
const problemMs = 1000;

/** Statuses of a server that understood the request but does not support or allow the upgrade. */
const unwilling = new Set([400, 405, 426, 501]);

/**
 * The error of a response that rejects a request: with the gateway's own code where the gateway answers (RFC 9457), else
 * `UPGRADE_REFUSED` or `HTTP_UNEXPECTED` with the status and the server's name. Reads up to 64 KiB of the body for up to
 * 1 s, and destroys it.
 */
export async function refusal(
  answer: Pick<HttpResponse, 'response' | 'status' | 'body'>,
  peer: string,
): Promise<ClientError> {
  const { response, status, body } = answer;
  const isProblem = /^application\/problem\+json\s*(?:;|$)/i.test(response.headers['content-type'] ?? '');
  const problem = isProblem ? parseProblem(await collect(body, response)) : undefined;
  body.destroy();
  if (problem === undefined)
    return new ClientError(codeOf(status), `${describeServer(response, peer)} answered ${status}`);
  const { code, detail, requestId } = problem;
  const context = { challenge: challengeOf(response), ...(requestId === undefined ? {} : { requestId }) };
  return new ClientError(code ?? codeOf(status), detail ?? `the gateway answered ${status}`, context);
}

/** Whether an intermediary, or a gateway without this entry, answered in place of the gateway: another entry can get through. */
export function isTransportFailure({ facts }: TunnelError): boolean {
  return facts.layer === 'http' || facts.layer === 'upgrade';
}

/** Reads the fields of a response that matter for the next DPoP proof. */
export function challengeOf({ headers }: Pick<IncomingMessage, 'headers'>): GatewayChallenge {
  const nonce = headers['dpop-nonce'];
  const date = Date.parse(headers.date ?? '');
  return {
    // RFC 9449 §8.1: visible characters without `"` and `\\`.
    ...(typeof nonce === 'string' && /^[\x21\x23-\x5b\x5d-\x7e]{1,1024}$/.test(nonce) ? { nonce } : {}),
    ...(Number.isNaN(date) ? {} : { date }),
  };
}

/** Names the server that answered, as far as it identifies itself: `nginx/1.22.1 at gw.example`. */
export function describeServer(response: IncomingMessage, peer: string): string {
  const server = response.headers.server;
  return server === undefined ? peer : `${printable(String(server)).slice(0, 100)} at ${peer}`;
}

function codeOf(status: number): TunnelErrorCode {
  return status < 300 || unwilling.has(status) ? 'UPGRADE_REFUSED' : 'HTTP_UNEXPECTED';
}

interface Problem {
  readonly code: TunnelErrorCode | undefined;
  readonly detail: string | undefined;
  readonly requestId: string | undefined;
}

/** The members of RFC 9457 that the client uses; members of another type are ignored. */
function parseProblem(body: string): Problem | undefined {
  let value: unknown;
  try {
    // After a CONNECT the body still has its transfer coding; one chunk holds all that is between the braces.
    value = JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1));
  } catch {
    return undefined;
  }
  const { code, detail, title, requestId } = value as Record<string, unknown>;
  return {
    code: isTunnelErrorCode(code) ? code : undefined,
    detail: text(detail) ?? text(title),
    requestId: text(requestId)?.slice(0, 100),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function collect(body: Readable, response: IncomingMessage): Promise<string> {
  const length = Number(response.headers['content-length'] ?? Infinity);
  const wanted = Math.min(maxProblemBytes, length);
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const done = (): void => {
      clearTimeout(timer);
      body.off('data', onData);
      resolve(Buffer.concat(chunks).subarray(0, maxProblemBytes).toString());
    };
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      if (size >= wanted) done();
    };
    const timer = setTimeout(done, problemMs);
    body.on('data', onData).once('end', done).once('error', done).once('close', done);
  });
}
