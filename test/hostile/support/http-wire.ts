import { createHmac } from 'node:crypto';
import { Agent, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';

/** One record of docs/entry/http.md. */
export interface Heard {
  readonly type: number;
  readonly bytes: Buffer;
}

/** An answer, whole. */
export interface Answered {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  readonly records: readonly Heard[];
  /** Of a problem document. */
  readonly code?: string;
}

/** What a client of one carrier knows. */
export interface Carried {
  readonly id: string;
  readonly secret: string;
  /** The words of the greeting. */
  readonly greeting: string;
}

export function record(type: number, bytes: string | Buffer): Buffer {
  const content = Buffer.from(bytes as string, 'latin1');
  return Buffer.concat([Buffer.of(type, 0, content.length >> 8, content.length & 255), content]);
}

export const text = 1;
export const data = 2;

/** A client of the plain transport, request by request; shares no code with ours, and sends what the test wants, valid or not. */
export class HttpWire {
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(port: number) {
    this.#port = port;
  }

  begin(method: string, path: string, headers: Readonly<Record<string, string>>): ClientRequest {
    const options = { port: this.#port, host: '127.0.0.1', agent: this.#agent, path: `/ssh/http/${path}` };
    return httpRequest({ ...options, method, headers }).on('error', () => {});
  }

  async ask(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>> = {},
    body?: Buffer,
  ): Promise<Answered> {
    const asking = this.begin(method, path, headers);
    asking.end(body);
    const response = await head(asking);
    const bytes = await buffer(response);
    const isProblem = response.headers['content-type'] === 'application/problem+json';
    return {
      status: response.statusCode!,
      headers: response.headers,
      body: bytes,
      records: isProblem ? [] : [...recordsIn(bytes)],
      ...(isProblem && { code: (JSON.parse(bytes.toString()) as { code: string }).code }),
    };
  }

  /** Opens a tunnel to a port of loopback. */
  async open(target: number, token = 'good'): Promise<Carried> {
    return carriedIn(
      await this.ask('POST', `connect?host=127.0.0.1&port=${target}`, {
        authorization: `Bearer ${token}`,
        'content-length': '0',
      }),
    );
  }

  down(
    carried: Carried,
    number: number,
    way = 'brief',
    more: Record<string, string> = {},
  ): Promise<Answered> {
    return this.ask('GET', way, { ...signed(carried, way, number), ...more });
  }

  up(carried: Carried, number: number, body: Buffer): Promise<Answered> {
    return this.ask('POST', 'up', upFields(carried, number, body.length), body);
  }

  close(): void {
    this.#agent.destroy();
  }
}

export function head(asking: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    asking.once('response', resolve).once('error', reject);
  });
}

export function upFields(carried: Carried, number: number, length: number): Record<string, string> {
  return {
    ...signed(carried, 'up', number),
    'content-type': 'application/octet-stream',
    'content-length': String(length),
  };
}

/** The field that signs a request (docs/entry/http.md). */
export function signed({ id, secret }: Carried, way: string, number: number): { 'postern-carrier': string } {
  const mac = createHmac('sha256', secret)
    .update(`postern-carrier\n${id}\n${way}\n${number}`)
    .digest('base64url');
  return { 'postern-carrier': `id=${id}, n=${number}, mac=${mac}` };
}

/** What the answer to `connect` or `reconnect` says. */
export function carriedIn({ records, status, code }: Answered): Carried {
  const said = records.find(({ type }) => type === 8)?.bytes.toString() ?? '';
  const [, id, secret] = /^id=(\S+) secret=(\S+)$/.exec(said) ?? [];
  if (id === undefined || secret === undefined) throw new Error(`no carrier: ${status} ${code}`);
  return { id, secret, greeting: records.find(({ type }) => type === text)?.bytes.toString() ?? '' };
}

function* recordsIn(bytes: Buffer): Generator<Heard> {
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUIntBE(at + 1, 3);
    yield { type: bytes[at]!, bytes: bytes.subarray(at + 4, at + 4 + length) };
    at += 4 + length;
  }
}
