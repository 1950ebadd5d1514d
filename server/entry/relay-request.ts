import type { IncomingHttpHeaders } from 'node:http';
import { TunnelError } from '../../protocol/errors.ts';
import { isResumeCause } from '../../protocol/resume-cause.ts';
import type { ResumeProof } from '../session/offer.ts';
import { single } from './request-target.ts';

/** A request for a resumable tunnel, whatever carrier it comes by. */
export interface RelayRequest {
  readonly kind: 'connect' | 'reconnect';
  readonly query: URLSearchParams;
}

/** Reads the URL `{base}connect?…` or `{base}reconnect?…`; undefined for another path. */
export function parseRelayRequest(url: string | undefined, base: string): RelayRequest | undefined {
  const [path, ...query] = (url ?? '').split('?');
  const kind = path === `${base}connect` ? 'connect' : path === `${base}reconnect` ? 'reconnect' : undefined;
  return kind && { kind, query: new URLSearchParams(query.join('?')) };
}

/** The content of a request to resume. */
export interface RelayResume {
  readonly sid: string;
  readonly received: number;
  readonly cause: string;
  readonly proof?: ResumeProof;
}

/** Reads a request to resume, which has a proof but in relay v4. Throws `REQUEST_INVALID`. */
export function readResume(
  query: URLSearchParams,
  headers: IncomingHttpHeaders,
  { isProven }: { readonly isProven: boolean },
): RelayResume {
  const sid = single(query, 'sid') ?? '';
  const received = single(query, 'ack') ?? '';
  if (!/^[\w.-]{1,128}$/.test(sid) || !/^[0-9]{1,20}$/.test(received))
    throw new TunnelError('REQUEST_INVALID', 'reconnect must name a session and a position');
  return { sid, received: Number(received), ...readResumeField(headers['postern-rejoin'], isProven) };
}

/** `Postern-Rejoin: count=3, mac=…, cause=reset` (docs/entry/relay.md). */
function readResumeField(
  field: string | readonly string[] | undefined,
  isProven: boolean,
): Pick<RelayResume, 'proof' | 'cause'> {
  if (!isProven && field === undefined) return { cause: 'unknown' };
  const [, count, mac, cause] =
    /^count=([1-9][0-9]{0,14}), mac=([\w-]{43}), cause=([a-z]{1,20})$/.exec(String(field)) ?? [];
  if (count === undefined || mac === undefined || !isProven)
    throw new TunnelError('REQUEST_INVALID', 'the field Postern-Rejoin cannot be read');
  return { proof: { count: Number(count), mac }, cause: isResumeCause(cause) ? cause : 'unknown' };
}
