import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { definedOnly } from '../../base/defined-only.ts';
import { isTunnelErrorCode } from '../../protocol/errors.ts';
import type { TunnelError, TunnelErrorCode } from '../../protocol/errors.ts';
import type { HttpResponse } from './exchange.ts';
import { ClientError } from '../errors/failure.ts';
import type { GatewayChallenge, Interruption } from '../errors/failure.ts';
import { printable } from '../os/terminal.ts';

const maxProblemBytes = 64 * 1024;
const problemMs = 1000;

/** Statuses of a server that understood the request but does not support or allow the upgrade. */
const unwilling = new Set([400, 405, 426, 501]);

/** Statuses of a server that cannot reach the next one, as during its restart; those from 520 are a content network's. */
const unavailable = new Set([502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530]);

/** The gateway's refusals that pass in a moment: it is stopping and another process takes over, or it waits for a part of its own. */
const passing: ReadonlySet<TunnelErrorCode> = new Set([
  'DRAINING',
  'REQUEST_TIMEOUT',
  'STORE_UNAVAILABLE',
  'AUDIT_UNAVAILABLE',
  'ISSUER_UNAVAILABLE',
]);

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
  const collected = isProblem ? await collect(body, response) : undefined;
  const problem = collected && parseProblem(collected.text);
  body.destroy();
  if (problem === undefined) {
    const what = `${describeServer(response, peer)} answered ${status}`;
    // The gateway's own words were cut off: another entry would get the same ones.
    if (collected?.isCut)
      return new ClientError('HTTP_UNEXPECTED', `${what}, and the connection broke`, {
        interruption: { how: 'lost' },
      });
    return new ClientError(codeOf(status), what, unavailability(status, response.headers));
  }
  const { code, detail, requestId } = problem;
  const context = {
    challenge: challengeOf(response),
    ...(requestId === undefined ? {} : { requestId }),
    ...(code === undefined
      ? unavailability(status, response.headers)
      : passing.has(code) && whenAvailable(response.headers)),
  };
  return new ClientError(code ?? codeOf(status), detail ?? `the gateway answered ${status}`, context);
}

/**
 * What a failure says about the way. `refused`: an intermediary, or a gateway without this entry, answered in place of
 * the gateway, and another entry can get through. `interrupted`: nothing at all; the same request can succeed in a
 * moment. `final`: another entry would meet with the same.
 */
export type FailureKind = 'refused' | 'interrupted' | 'final';

/** Judges a failure of `ClientEntry.open` or `CarrierConnector.open`. */
export function failureKind(failure: TunnelError): FailureKind {
  if (interruptionOf(failure) !== undefined) return 'interrupted';
  return isOfEntry(failure) ? 'refused' : 'final';
}

/** How the request was lost; undefined when something was decided about it. */
export function interruptionOf(failure: TunnelError): Interruption | undefined {
  if (failure instanceof ClientError && failure.interruption !== undefined) return failure.interruption;
  // A limit of the client's own: nothing answered.
  return failure.code === 'GATEWAY_TIMEOUT' ? { how: 'lost' } : undefined;
}

/** Whether a failure came after the way to the gateway was open, and not from the gateway: it can depend on the entry. */
export function isOfEntry({ facts }: TunnelError): boolean {
  return facts.layer === 'http' || facts.layer === 'upgrade';
}

/** The fields that say when to try again. */
type RetryFields = Readonly<Partial<Record<'retry-after' | 'date', string | undefined>>>;

/** The context of the error for a response of an intermediary: with an interruption where it cannot reach the next server now. */
export function unavailability(
  status: number,
  fields: RetryFields,
): { readonly interruption?: Interruption } {
  return unavailable.has(status) ? whenAvailable(fields) : {};
}

function whenAvailable(fields: RetryFields): { readonly interruption: Interruption } {
  return {
    interruption: { how: 'unavailable', ...definedOnly({ retryAfterMs: parseRetryAfter(fields) }) },
  };
}

/** The field `Retry-After` in milliseconds (RFC 9110 §10.2.3); undefined where it is missing or invalid. */
export function parseRetryAfter({ 'retry-after': value = '', date = '' }: RetryFields): number | undefined {
  // By the clock of that server, where it says what that is.
  const sentAt = Date.parse(date);
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const at = /^[A-Z][a-z]{2}, /.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - (Number.isNaN(sentAt) ? Date.now() : sentAt));
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
  // Every further request would make it worse, by whatever entry.
  if (status === 429) return 'LIMIT_ADDRESS';
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

/** Reads a body; `isCut`: the connection broke before its end. */
function collect(
  body: Readable,
  response: IncomingMessage,
): Promise<{ readonly text: string; readonly isCut: boolean }> {
  const length = Number(response.headers['content-length'] ?? Infinity);
  const wanted = Math.min(maxProblemBytes, length);
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const finish = (isCut: boolean): void => {
      clearTimeout(timer);
      body.off('data', onData);
      resolve({ text: Buffer.concat(chunks).subarray(0, maxProblemBytes).toString(), isCut });
    };
    const done = (): void => finish(false);
    const cut = (): void => finish(true);
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      size += chunk.length;
      if (size >= wanted) done();
    };
    const timer = setTimeout(cut, problemMs);
    body.on('data', onData).once('end', () => finish(Number.isFinite(length) && size < length));
    body.once('error', cut).once('close', cut);
  });
}
