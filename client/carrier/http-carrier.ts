import { createHmac, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { onAbort } from '../../base/deadline.ts';
import { RecordDecoder, encodeRecord, recordTypes } from '../../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../../protocol/http-carrier-record.ts';
import { RecordCarrier } from '../../stream/record-carrier.ts';
import { ClientError } from '../errors/failure.ts';
import type { ConnectionPool } from './http-connections.ts';

/** An echo on an open response arrives within this time, or an intermediary buffers the response. */
const echoMs = 1000;
/** Parts of one response that arrive within this time have arrived together. */
const togetherMs = 100;
/** After this many false alarms the network is slow enough for short responses anyway. */
const maxFalseAlarms = 3;
/** Longer than the gateway holds a response without data. */
const answerMs = 45_000;
/** Request bodies of this size pass everywhere. */
const maxRequestBytes = 512 * 1024;
/** The gateway gives up a request whose body takes too long: a network that carries less than this in ten seconds is too slow. */
const minRequestBytes = 16 * 1024;
/** The target duration of a request in a slow network. */
const requestMs = 1000;
/** Time for the last records to be sent. */
const flushMs = 500;

export interface HttpCarrierOptions {
  readonly gateway: URL;
  readonly connections: ConnectionPool;
  /** Whether to ask for short responses from the start. */
  readonly isShortResponse: boolean;
  /** Called when an intermediary turns out to buffer a response that is still being written. */
  readonly onBuffered: () => void;
}

/** The client's end of a carrier by plain HTTP: one response is always open, and one request with data at a time is sent. */
export class HttpCarrier extends RecordCarrier {
  readonly #options: HttpCarrierOptions;
  readonly #over = new AbortController();
  #id = '';
  #secret = '';
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #answers = 1;
  #requests = 0;
  #isSending = false;
  #sendingSoon: NodeJS.Immediate | undefined;
  #isShortResponse: boolean;
  #isFinishing = false;
  #requestBytes = minRequestBytes;
  /** The bytes of an echo request that was not answered yet. */
  #echo: Buffer | undefined;
  #echoTimer: NodeJS.Timeout | undefined;
  /** The echo did not arrive in time. */
  #isSuspicious = false;
  /** How often a suspicion was wrong. */
  #falseAlarms = 0;
  #echoedAt = 0;

  /** Takes over the response that opens the carrier, and `connections`. Throws `HTTP_UNEXPECTED` for an incomplete one, `GATEWAY_TIMEOUT` when `signal` aborts. */
  static async open(
    response: IncomingMessage,
    { signal, ...options }: HttpCarrierOptions & { readonly signal: AbortSignal },
  ): Promise<HttpCarrier> {
    const carrier = new HttpCarrier(options);
    const removeListener = onAbort(signal, () => void response.destroy());
    try {
      await carrier.#read(response);
    } catch (cause) {
      const { host } = options.gateway;
      if (signal.aborted)
        throw new ClientError('GATEWAY_TIMEOUT', `${host} did not answer in time`, { cause });
      throw new ClientError('HTTP_UNEXPECTED', `the response of ${host} was incomplete`, {
        cause,
        interruption: { how: 'lost' },
      });
    } finally {
      removeListener();
    }
    if (carrier.#id === '')
      throw new ClientError('HTTP_UNEXPECTED', `${options.gateway.host} opened no carrier`);
    if (!options.isShortResponse) carrier.#requestEcho();
    void carrier.#fetch();
    return carrier;
  }

  private constructor(options: HttpCarrierOptions) {
    super();
    this.#options = options;
    this.#isShortResponse = options.isShortResponse;
  }

  get waitingBytes(): number {
    return this.#queuedBytes;
  }

  protected override transmit(record: Buffer): void {
    this.#queue.push(record);
    this.#queuedBytes += record.length;
    if (this.#isSending) return;
    // Records of one turn are sent together.
    this.#sendingSoon ??= setImmediate(() => {
      this.#sendingSoon = undefined;
      if (!this.#isSending) void this.#sendAll();
    });
  }

  protected override sendLast(): void {
    this.#isFinishing = true;
    clearTimeout(this.#echoTimer);
    setTimeout(() => this.release(), flushMs).unref();
  }

  protected override release(): void {
    clearTimeout(this.#echoTimer);
    clearImmediate(this.#sendingSoon);
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#over.abort();
    this.#options.connections.close();
  }

  /** Fetches one response after the other. */
  async #fetch(): Promise<void> {
    try {
      while (!this.isOver) {
        const direction = this.#isShortResponse ? 'brief' : 'down';
        const fields = this.#signed(direction, this.#answers++);
        // Unique, so that no cache answers it.
        const path = `${this.#path(direction)}?r=${randomBytes(6).toString('base64url')}`;
        const response = await this.#options.connections.request(
          { method: 'GET', path, headers: fields },
          { signal: this.#over.signal, answerMs },
        );
        if (response.statusCode !== 200) throw rejected(response);
        await this.#read(response);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Receives the records of a response. Rejects when it ends without NEXT: something of it is missing. */
  async #read(response: IncomingMessage): Promise<void> {
    const decoder = new RecordDecoder();
    let isWhole = false;
    for await (const chunk of response as AsyncIterable<Buffer>) {
      for (const record of decoder.push(chunk)) {
        if (record.type === recordTypes.NEXT) isWhole = true;
        else this.#received(record);
      }
    }
    if (!isWhole && !this.isOver) throw cut;
    if (this.#isSuspicious) this.#reviewSuspicion();
  }

  #received(record: HttpRecord): void {
    if (record.type === recordTypes.CARRIER) this.#introduced(record.bytes.toString('latin1'));
    else if (record.type === recordTypes.ECHO_REPLY) this.#onEcho(record.bytes);
    else this.receiveRecord(record);
  }

  #introduced(text: string): void {
    const [, id, secret] = /^id=([\w-]{22}) secret=([\w-]{43})(?: |$)/.exec(text) ?? [];
    if (id === undefined || secret === undefined || this.#id !== '') throw cut;
    this.#id = id;
    this.#secret = secret;
  }

  /** Sends the queue, one request after the other. */
  async #sendAll(): Promise<void> {
    this.#isSending = true;
    try {
      while (this.#queue.length > 0) {
        const startedAt = performance.now();
        const body = this.#nextBody();
        const headers = {
          ...this.#signed('up', this.#requests++),
          'Content-Type': 'application/octet-stream',
        };
        const response = await this.#options.connections.request(
          { method: 'POST', path: this.#path('up'), headers, body },
          { signal: this.#over.signal, answerMs },
        );
        if (response.statusCode !== 204 && response.statusCode !== 200) throw rejected(response);
        response.resume();
        this.#adapt(body.length, performance.now() - startedAt);
        this.#watchEcho();
        this.wentOut();
      }
      if (this.#isFinishing) this.release();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#isSending = false;
    }
  }

  /** Removes from the queue what one request can carry, at least one record. */
  #nextBody(): Buffer {
    let count = 0;
    let bytes = 0;
    for (const record of this.#queue) {
      if (count > 0 && bytes + record.length > this.#requestBytes) break;
      count++;
      bytes += record.length;
    }
    this.#queuedBytes -= bytes;
    return Buffer.concat(this.#queue.splice(0, count), bytes);
  }

  /** Adapts the size of requests so that one takes about a second: neither too late for the gateway nor much to repeat. */
  #adapt(bytes: number, tookMs: number): void {
    if (tookMs > 2 * requestMs) this.#requestBytes /= 2;
    else if (bytes > this.#requestBytes / 2 && tookMs < requestMs / 2) this.#requestBytes *= 2;
    this.#requestBytes = Math.min(maxRequestBytes, Math.max(minRequestBytes, this.#requestBytes));
  }

  /** Finds out whether responses arrive as they are written. */
  #requestEcho(): void {
    this.#echo = randomBytes(8);
    this.transmit(encodeRecord(recordTypes.ECHO, this.#echo));
  }

  #watchEcho(): void {
    if (this.#echo === undefined || this.#echoTimer !== undefined) return;
    this.#echoTimer = setTimeout(() => {
      this.#isSuspicious = true;
      this.#isShortResponse = true;
      // The end of the response releases what is buffered of it.
      this.transmit(encodeRecord(recordTypes.BRIEF, Buffer.alloc(0)));
    }, echoMs);
    this.#echoTimer.unref();
  }

  #onEcho(bytes: Buffer): void {
    if (this.#echo === undefined || !bytes.equals(this.#echo)) return;
    this.#echo = undefined;
    this.#echoedAt = performance.now();
    clearTimeout(this.#echoTimer);
  }

  /** An echo that arrived together with the end of its response was buffered until then; one that arrived before was only slow. */
  #reviewSuspicion(): void {
    this.#isSuspicious = false;
    const wasBuffered = performance.now() - this.#echoedAt < togetherMs;
    if (wasBuffered || ++this.#falseAlarms === maxFalseAlarms) return this.#options.onBuffered();
    this.#isShortResponse = false;
    this.#echoTimer = undefined;
    this.#requestEcho();
  }

  #signed(direction: string, number: number): { 'Postern-Carrier': string } {
    return {
      'Postern-Carrier': carrierField({ id: this.#id, secret: this.#secret, direction, number }),
    };
  }

  #path(direction: string): string {
    return `${this.#options.gateway.pathname}http/${direction}`;
  }

  #fail(error: unknown): void {
    const { cause } = error as Error;
    const isReset = (cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNRESET';
    if (this.isOver) this.release();
    else this.lost({ how: isReset ? 'reset' : 'dropped' });
  }
}

/** The `Postern-Carrier` field: proves knowledge of the carrier's secret for this one request, without sending it. */
export function carrierField(what: {
  readonly id: string;
  readonly secret: string;
  readonly direction: string;
  readonly number: number;
}): string {
  const { id, secret, direction, number } = what;
  const mac = createHmac('sha256', secret)
    .update(`postern-carrier\n${id}\n${direction}\n${number}`)
    .digest('base64url');
  return `id=${id}, n=${number}, mac=${mac}`;
}

/** An incomplete response: what the gateway wrote into it can be lost. */
const cut = new Error('a response was incomplete');

function rejected(response: IncomingMessage): Error {
  response.destroy();
  return new Error(`answered ${response.statusCode}`);
}
