import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { json } from 'node:stream/consumers';
import { WebSocket } from 'ws';

/** The answer of the gateway instead of 101. */
export interface Refused {
  readonly status: number;
  readonly code: string;
  /** Its words, without what names the request. */
  readonly words: string;
}

export interface WireOptions {
  readonly token?: string;
  readonly subprotocols?: readonly string[];
  readonly fields?: Readonly<Record<string, string>>;
}

export const v1 = 'postern.relay.v1';
export const v4 = 'relay.tunnel.cloudproxy.app';

/** One connection of a relay, message by message; shares no code with ours, and sends what the test wants, valid or not. */
export class Wire {
  readonly socket: WebSocket;
  /** Everything that has come: text as text, data as bytes. */
  readonly heard: (string | Buffer)[] = [];
  closeCode: number | undefined;
  #taken = 0;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data: Buffer, isBinary) => {
      this.heard.push(isBinary ? data : data.toString('latin1'));
      socket.emit('heard');
    });
    socket.on('close', (code) => {
      this.closeCode = code;
      socket.emit('heard');
    });
    socket.on('error', () => {});
  }

  /** Opens one, or gives why not. */
  static open(port: number, path: string, options: WireOptions = {}): Promise<Wire | Refused> {
    const { token = 'good', subprotocols = [v1], fields = {} } = options;
    const headers = { ...fields, ...(token !== '' && { authorization: `Bearer ${token}` }) };
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ssh/v4/${path}`, [...subprotocols], { headers });
    return new Promise((resolve, reject) => {
      socket.once('open', () => resolve(new Wire(socket)));
      socket.once(
        'unexpected-response',
        (_request, response) => void refused(response).then(resolve, reject),
      );
      socket.once('error', reject);
    });
  }

  /** The next message; undefined when the connection has closed. */
  async next(): Promise<string | Buffer | undefined> {
    while (this.heard.length <= this.#taken && this.closeCode === undefined) await once(this.socket, 'heard');
    return this.heard[this.#taken++];
  }

  /** The numbers of the next text message that begins with `word`. */
  async values(word: string): Promise<Readonly<Record<string, string>>> {
    for (;;) {
      const message = await this.next();
      if (message === undefined) throw new Error(`closed with ${this.closeCode} before ${word}`);
      if (typeof message === 'string' && message.split(' ')[0] === word)
        return Object.fromEntries(
          message
            .split(' ')
            .slice(1)
            .map((pair) => pair.split('=') as [string, string]),
        );
    }
  }

  /** All bytes that have come. */
  get bytes(): Buffer {
    return Buffer.concat(this.heard.filter((message) => typeof message !== 'string'));
  }

  async until(text: string): Promise<void> {
    while (!this.bytes.includes(text)) {
      if (this.closeCode !== undefined) throw new Error(`closed with ${this.closeCode} before ${text}`);
      await once(this.socket, 'heard');
    }
  }

  async closed(): Promise<number> {
    while (this.closeCode === undefined) await once(this.socket, 'heard');
    return this.closeCode;
  }

  drop(): void {
    this.socket.terminate();
  }
}

async function refused(response: IncomingMessage): Promise<Refused> {
  const body = (await json(response)) as { code: string; requestId?: string };
  const { requestId: _requestId, ...words } = body;
  return { status: response.statusCode!, code: body.code, words: JSON.stringify(words) };
}

/** A tunnel of `postern.relay.v1` as its client knows it. */
export interface Known {
  readonly sid: string;
  readonly secret: string;
}

export async function openTunnel(
  port: number,
  target: number,
  options?: WireOptions,
): Promise<{ readonly wire: Wire; readonly known: Known }> {
  const wire = await Wire.open(port, `connect?host=127.0.0.1&port=${target}`, options);
  if (!(wire instanceof Wire)) throw new Error(JSON.stringify(wire));
  const { sid, secret } = await wire.values('opened');
  return { wire, known: { sid: sid!, secret: secret! } };
}

/** The field of a request to rejoin: HMAC-SHA-256, keyed by the text of the secret. */
export function rejoinFields(
  { sid, secret }: Known,
  { count, ack = 0 }: { readonly count: number; readonly ack?: number | string },
): Readonly<Record<string, string>> {
  const mac = createHmac('sha256', secret)
    .update(`postern-rejoin\n${sid}\n${count}\n${ack}`)
    .digest('base64url');
  return { 'postern-rejoin': `count=${count}, mac=${mac}, cause=reset` };
}

/** Goes on with a tunnel as its client would. */
export function rejoinTunnel(
  port: number,
  known: Known,
  what: { readonly count: number; readonly ack?: number; readonly token?: string },
): Promise<Wire | Refused> {
  const { count, ack = 0, token = 'good' } = what;
  return Wire.open(port, `reconnect?sid=${known.sid}&ack=${ack}`, {
    token,
    fields: rejoinFields(known, { count, ack }),
  });
}
