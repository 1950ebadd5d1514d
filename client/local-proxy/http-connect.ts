import { STATUS_CODES } from 'node:http';
import { trimOptionalWhitespace } from '../../base/optional-whitespace.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import { formatResponseHead } from '../../protocol/http-head.ts';
import { formatTarget, parseTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { printable } from '../os/terminal.ts';
import { Refusal, receiveUntil } from './handshake.ts';
import type { Handshake } from './handshake.ts';
import type { Password } from './password.ts';

const maxHeadBytes = 16 * 1024;
const granted = Buffer.from(formatResponseHead(200, 'Connection established', []));

/**
 * `CONNECT host:port` (RFC 9110 §9.3.6), after its first byte. Other requests get no response: a web page can make a
 * browser send requests here, also under a name of its own (DNS rebinding), and must not learn anything.
 */
export function* httpConnect(first: Buffer, password: Password | undefined): Handshake {
  const rest = yield* receiveUntil('\r\n\r\n', maxHeadBytes - 1);
  if (rest === undefined)
    throw new Refusal(new ClientError('HEADERS_TOO_LARGE', 'the request head is too large'));
  const [line = '', ...lines] = Buffer.concat([first, rest]).toString('latin1').slice(0, -4).split('\r\n');
  const [, method, uri] = /^([A-Z]+) (\S+) HTTP\/1\.[01]$/.exec(line) ?? [];
  if (uri === undefined) throw new Refusal(malformed('malformed request line'));
  if (method !== 'CONNECT') throw notConnect(uri);
  const fields = parseFields(lines);
  if (fields.has('origin'))
    throw refuse(
      new ClientError(
        'ORIGIN_DENIED',
        'a web page requested a tunnel, which web pages are not allowed to do',
      ),
    );
  const target = targetOf(uri);
  checkHost(fields.get('host'), target);
  if (fields.has('transfer-encoding') || (fields.get('content-length') ?? '0') !== '0')
    throw refuse(malformed('the CONNECT request has a body'));
  if (password !== undefined) checkPassword(fields.get('proxy-authorization'), password);
  return { protocol: 'HTTP CONNECT', target, granted, refused: (error) => answer(error) };
}

/** A request meant for a web server gets no response; one meant for another kind of proxy gets a 405. */
function notConnect(uri: string): Refusal {
  if (uri.startsWith('/') || uri === '*')
    return new Refusal(malformed('the request is for a web server; only CONNECT is supported'));
  return refuse(malformed('only CONNECT is supported'), 405, [['Allow', 'CONNECT']]);
}

/** A token of RFC 9110 section 5.6.2. */
const fieldName = /^[\w!#$%&'*+.^`|~-]+$/;

function parseFields(lines: readonly string[]): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const key = line.slice(0, Math.max(colon, 0)).toLowerCase();
    if (!fieldName.test(key)) throw refuse(malformed('malformed header line'));
    if (single.has(key) && fields.has(key)) throw refuse(malformed(`the request has ${key} twice`));
    fields.set(key, trimOptionalWhitespace(line.slice(colon + 1)));
  }
  return fields;
}

const single: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'proxy-authorization',
]);

function targetOf(uri: string): Target {
  try {
    return parseTarget(uri, 'required');
  } catch (error) {
    throw refuse(toFailure(error));
  }
}

/** Checks Host: it names the target (RFC 9112 §3.2.3), or, in some programs, the proxy by an address of this machine. */
function checkHost(host: string | undefined, target: Target): void {
  if (host === undefined || /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i.test(host)) return;
  const wanted = formatTarget(target);
  const named = host.toLowerCase();
  if (named !== wanted && `${named}:${target.port}` !== wanted)
    throw refuse(malformed('the Host field does not match the target'));
}

function checkPassword(credentials: string | undefined, password: Password): void {
  const [, pair] = /^basic +([\w+/-]+=*)$/i.exec(credentials ?? '') ?? [];
  const text = Buffer.from(pair ?? '', 'base64').toString();
  const colon = text.indexOf(':');
  if (pair !== undefined && colon !== -1 && password.matches(text.slice(colon + 1))) return;
  const isGuess = credentials !== undefined;
  const error = new ClientError(
    'LISTENER_DENIED',
    isGuess ? 'a program sent a wrong password with CONNECT' : 'a program sent CONNECT without the password',
  );
  const challenge = ['Proxy-Authenticate', 'Basic realm="postern listen", charset="UTF-8"'] as const;
  throw new Refusal(error, answer(error, 407, [challenge]), { isGuess });
}

function refuse(error: TunnelError, status?: number, fields?: Fields): Refusal {
  return new Refusal(error, answer(error, status, fields));
}

type Fields = readonly (readonly [name: string, value: string])[];

/** Formats a response. Some programs show only the reason phrase, so it has the code. The body is a problem document (RFC 9457). */
function answer(error: TunnelError, status = statusOf(error), fields: Fields = []): Buffer {
  const { requestId, hint } = error instanceof ClientError ? error : {};
  const title = STATUS_CODES[status]!;
  const problem = {
    type: `urn:postern:error:${error.code}`,
    title,
    status,
    detail: printable(error.message),
    code: error.code,
    ...(requestId === undefined ? {} : { requestId }),
    ...(hint ? { hint } : {}),
  };
  const body = `${JSON.stringify(problem)}\n`;
  const head = formatResponseHead(status, `${title} (${error.code})`, [
    ['Content-Type', 'application/problem+json'],
    ['Content-Length', String(Buffer.byteLength(body))],
    ['Cache-Control', 'no-store'],
    ['Connection', 'close'],
    ...fields,
  ]);
  return Buffer.from(head + body);
}

/** A missing sign-in is not the program's: a 401 would make it prompt for a password. */
function statusOf({ code, facts: { status } }: TunnelError): number {
  if (code === 'GATEWAY_TIMEOUT') return 504;
  if (status === 0) return 502;
  return status === 401 || status === 407 ? 403 : status;
}

function malformed(what: string): ClientError {
  return new ClientError('REQUEST_INVALID', what);
}
