import { validateHeaderValue } from 'node:http';
import type { Socket } from 'node:net';
import { ClientError } from '../../errors/failure.ts';
import { noAnswer, withResponseTimeout } from '../../http/exchange.ts';
import { userAgent } from '../../os/version.ts';

/** curl's limit, since it has one; no proxy is known to send more than a few KiB. */
const maxHeadBytes = 300 * 1024;

/**
 * The head of a proxy's response to CONNECT. It is read as leniently as curl reads it, more so than Node.js: the fields
 * that frame a body have no meaning in a success (RFC 9110 §9.3.6), and no proxy is worth a refusal because of the others.
 */
export interface ConnectResponse {
  readonly status: number;
  /** 0 for HTTP/1.0. */
  readonly minorVersion: number;
  /** The values of a field by its name in lower case, in order; empty where it is missing. */
  values(name: string): readonly string[];
}

/** Whether a proxy requests a sign-in by another status than 407: by 401, as a server does, or by 403 with an offer. */
export function requestsSignIn(answer: ConnectResponse): boolean {
  return answer.status === 401 || (answer.status === 403 && answer.values('proxy-authenticate').length > 0);
}

/** The CONNECT request to a proxy. */
export interface ProxyTunnelRequest {
  /** `host:port` of the gateway. */
  readonly authority: string;
  /** Further fields; those that are undefined are left out. */
  readonly fields: Readonly<Record<string, string | undefined>>;
  /** The name of the proxy in messages. */
  readonly peer: string;
}

/**
 * Sends CONNECT on `socket` and waits for the head of the response; interim (1xx) responses are skipped. Bytes that follow
 * it are put back. The socket stays the caller's, and is destroyed on failure: `HTTP_UNEXPECTED` for an invalid response,
 * `UPGRADE_REFUSED` for silence, `GATEWAY_TIMEOUT` when `signal` aborts.
 */
export function requestConnect(
  socket: Socket,
  { authority, fields, peer }: ProxyTunnelRequest,
  signal: AbortSignal,
): Promise<ConnectResponse> {
  return new Promise((resolve, reject) => {
    const reader = new HeadReader();
    const stop = (): void => {
      stopWaiting();
      socket.off('readable', read).off('error', fail).off('end', onEnd).off('close', onEnd);
    };
    const fail = (error: Error): void => {
      stop();
      // An error that is still on its way must not end the process.
      socket.on('error', () => {}).destroy();
      reject(noAnswer(error, peer));
    };
    const onEnd = (): void => fail(Object.assign(new Error('closed'), { code: 'ECONNRESET' }));
    const read = (): void => {
      for (let chunk = readFrom(socket); chunk !== null; chunk = readFrom(socket)) {
        let head: ConnectResponse | undefined;
        try {
          head = reader.push(chunk);
        } catch (error) {
          return fail(error as Error);
        }
        if (head === undefined) continue;
        stop();
        if (reader.rest.length > 0) socket.unshift(reader.rest);
        return resolve(head);
      }
    };
    const stopWaiting = withResponseTimeout({ peer }, signal, fail);
    socket.on('readable', read).once('error', fail).once('end', onEnd).once('close', onEnd);
    socket.write(requestHead(authority, fields), 'latin1');
    if (socket.destroyed || socket.readableEnded) onEnd();
  });
}

/** Throws `ERR_INVALID_CHAR` for a value that would end its line. */
function requestHead(authority: string, fields: ProxyTunnelRequest['fields']): string {
  let head = `CONNECT ${authority} HTTP/1.1\r\n`;
  for (const [name, value] of Object.entries({ Host: authority, 'User-Agent': userAgent, ...fields })) {
    if (value === undefined) continue;
    validateHeaderValue(name, value);
    head += `${name}: ${value}\r\n`;
  }
  return `${head}\r\n`;
}

function readFrom(socket: Socket): Buffer | null {
  return socket.read() as Buffer | null;
}

/** Reads the head of a response, in chunks of any size, and looks at each byte once. */
class HeadReader {
  /** The bytes after the head. */
  rest: Buffer = Buffer.alloc(0);
  #size = 0;
  /** The parts of a line that is not complete. */
  #parts: Buffer[] = [];
  #lines: string[] = [];
  /** The first bytes, until there are enough to tell what this is. */
  #start = '';

  /** The head when it is complete. Throws `HTTP_UNEXPECTED` when it is too large or not HTTP/1. */
  push(chunk: Buffer): ConnectResponse | undefined {
    let at = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, at)) {
      this.#count(end + 1 - at);
      this.#parts.push(chunk.subarray(at, end));
      at = end + 1;
      const head = this.#addLine(Buffer.concat(this.#parts).toString('latin1'));
      this.#parts = [];
      if (head === undefined) continue;
      this.rest = chunk.subarray(at);
      return head;
    }
    this.#count(chunk.length - at);
    this.#parts.push(chunk.subarray(at));
    // What is no HTTP at all is not waited for.
    if (this.#lines.length === 0 && this.#start.length < 7) {
      this.#start += chunk.toString('latin1', 0, 7);
      if (!'HTTP/1.'.startsWith(this.#start.slice(0, 7))) throw notHttp();
    }
    return undefined;
  }

  #count(bytes: number): void {
    this.#size += bytes;
    if (this.#size > maxHeadBytes)
      throw Object.assign(new Error('too large'), { code: 'HPE_HEADER_OVERFLOW' });
  }

  #addLine(text: string): ConnectResponse | undefined {
    const line = withoutReturns(text);
    if (this.#lines.length === 0) parseStatus(line);
    if (line !== '') {
      this.#lines.push(line);
      return undefined;
    }
    const { status, minorVersion } = parseStatus(this.#lines[0]!);
    const fields = parseFields(this.#lines.slice(1));
    this.#lines = [];
    if (status >= 100 && status < 200 && status !== 101) return undefined;
    return { status, minorVersion, values: (name) => fields.get(name) ?? [] };
  }
}

function withoutReturns(text: string): string {
  let end = text.length;
  while (text.charCodeAt(end - 1) === 0x0d) end--;
  return text.slice(0, end);
}

/** With the numbers as curl reads them: after any blanks, with zeros in front and text behind. */
function parseStatus(line: string): { readonly status: number; readonly minorVersion: number } {
  const [, minor, status] = /^HTTP\/1\.(\d{1,3})[ \t]+0{0,9}([1-9]\d\d)(?!\d)/.exec(line) ?? [];
  if (status === undefined) throw notHttp();
  return { status: Number(status), minorVersion: Number(minor) };
}

function notHttp(): ClientError {
  return new ClientError('HTTP_UNEXPECTED', 'the response of the proxy is not HTTP');
}

/** Fields by their names in lower case. A folded line continues the field before it; a line without a colon is skipped. */
function parseFields(lines: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const fields = new Map<string, string[]>();
  let last: string[] | undefined;
  for (const line of lines) {
    if (line.startsWith(' ') || line.startsWith('\t')) {
      if (last !== undefined) last.push(`${last.pop()!} ${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(':');
    if (colon === -1) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    last = fields.get(name) ?? [];
    last.push(line.slice(colon + 1).trim());
    fields.set(name, last);
  }
  return fields;
}
