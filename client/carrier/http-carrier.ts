import { createHmac, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { RecordDecoder, encodeRecord, recordTypes } from '../../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../../protocol/http-carrier-record.ts';
import { RecordCarrier } from '../../stream/record-carrier.ts';
import { ClientError } from '../errors/failure.ts';
import type { ConnectionPool } from './http-connections.ts';

/** What was asked back on an answer that is open comes within this time, or something on the way keeps it. */
const heldBackMs = 1000;
/** Parts of one answer that come closer to each other than this have come together. */
const togetherMs = 100;
/** After so many false alarms a network is slow enough to ask for brief answers all the same. */
const maxSuspicions = 3;
/** Longer than an answer that has nothing to say takes. */
const answerMs = 45_000;
/** A request of this many bytes is let through everywhere. */
const maxRequestBytes = 512 * 1024;
/** Where a network takes no more than this in ten seconds the gateway gives the request up. */
const minRequestBytes = 16 * 1024;
/** A slow network has requests that take about this long. */
const requestMs = 1000;
/** What is said last gets this long to go out. */
const lastWordsMs = 500;

export interface HttpCarrierOptions {
  readonly gateway: URL;
  readonly lines: ConnectionPool;
  /** Whether to ask for brief answers from the start. */
  readonly isShortResponse: boolean;
  /** Told when something on the way does not pass on what is written into an answer that goes on. */
  readonly onHeldBack: () => void;
}

/** The client's end of a carrier by plain HTTP: one answer is always asked for, and one request at a time is sent. */
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
  /** What was asked back and has not come. */
  #echo: Buffer | undefined;
  #echoTimer: NodeJS.Timeout | undefined;
  /** It did not come in time; how often that was a mistake; and when it came. */
  #isSuspecting = false;
  #suspicions = 0;
  #heardBackAt = 0;

  /** Takes over the answer to the request that opened it, and `lines`. Throws `HTTP_UNEXPECTED` when it is not whole. */
  static async open(
    response: IncomingMessage,
    { signal, ...options }: HttpCarrierOptions & { readonly signal: AbortSignal },
  ): Promise<HttpCarrier> {
    const carrier = new HttpCarrier(options);
    const stop = (): void => void response.destroy();
    signal.addEventListener('abort', stop, { once: true });
    try {
      await carrier.#read(response);
    } catch (cause) {
      const { host } = options.gateway;
      if (signal.aborted)
        throw new ClientError('GATEWAY_TIMEOUT', `${host} did not answer in time`, { cause });
      throw new ClientError('HTTP_UNEXPECTED', `the answer of ${host} was cut`, { cause });
    } finally {
      signal.removeEventListener('abort', stop);
    }
    if (carrier.#id === '')
      throw new ClientError('HTTP_UNEXPECTED', `${options.gateway.host} opened no carrier`);
    if (!options.isShortResponse) carrier.#askBack();
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
    // What is said in one turn goes out together.
    this.#sendingSoon ??= setImmediate(() => {
      this.#sendingSoon = undefined;
      if (!this.#isSending) void this.#sendAll();
    });
  }

  protected override sendLast(): void {
    this.#isFinishing = true;
    clearTimeout(this.#echoTimer);
    setTimeout(() => this.release(), lastWordsMs).unref();
  }

  protected override release(): void {
    clearTimeout(this.#echoTimer);
    clearImmediate(this.#sendingSoon);
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#over.abort();
    this.#options.lines.close();
  }

  /** Fetches one answer after the other. */
  async #fetch(): Promise<void> {
    try {
      while (!this.isOver) {
        const direction = this.#isShortResponse ? 'brief' : 'down';
        const fields = this.#signed(direction, this.#answers++);
        // Nobody may take it for something that was asked before.
        const path = `${this.#path(direction)}?r=${randomBytes(6).toString('base64url')}`;
        const response = await this.#options.lines.ask(
          { method: 'GET', path, headers: fields },
          { signal: this.#over.signal, answerMs },
        );
        if (response.statusCode !== 200) throw refused(response);
        await this.#read(response);
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Takes the records of an answer. Rejects when it does not say that there is a next one. */
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
    if (this.#isSuspecting) this.#judge();
  }

  #received(record: HttpRecord): void {
    if (record.type === recordTypes.CARRIER) this.#introduced(record.bytes.toString('latin1'));
    else if (record.type === recordTypes.ECHO_REPLY) this.#heardBack(record.bytes);
    else this.receiveRecord(record);
  }

  #introduced(text: string): void {
    const [, id, secret] = /^id=([\w-]{22}) secret=([\w-]{43})(?: |$)/.exec(text) ?? [];
    if (id === undefined || secret === undefined || this.#id !== '') throw cut;
    this.#id = id;
    this.#secret = secret;
  }

  /** Sends what waits, one request after the other. */
  async #sendAll(): Promise<void> {
    this.#isSending = true;
    try {
      while (this.#queue.length > 0) {
        const startedAt = performance.now();
        const body = this.#takeQueue();
        const headers = {
          ...this.#signed('up', this.#requests++),
          'Content-Type': 'application/octet-stream',
        };
        const response = await this.#options.lines.ask(
          { method: 'POST', path: this.#path('up'), headers, body },
          { signal: this.#over.signal, answerMs },
        );
        if (response.statusCode !== 204 && response.statusCode !== 200) throw refused(response);
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

  /** As many records as one request may have, one at least. */
  #takeQueue(): Buffer {
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

  /** What a network takes in a second or so is neither late for the gateway nor much to lose. */
  #adapt(bytes: number, tookMs: number): void {
    if (tookMs > 2 * requestMs) this.#requestBytes /= 2;
    else if (bytes > this.#requestBytes / 2 && tookMs < requestMs / 2) this.#requestBytes *= 2;
    this.#requestBytes = Math.min(maxRequestBytes, Math.max(minRequestBytes, this.#requestBytes));
  }

  /** Finds out whether answers come as they are written. */
  #askBack(): void {
    this.#echo = randomBytes(8);
    this.transmit(encodeRecord(recordTypes.ECHO, this.#echo));
  }

  #watchEcho(): void {
    if (this.#echo === undefined || this.#echoTimer !== undefined) return;
    this.#echoTimer = setTimeout(() => {
      this.#isSuspecting = true;
      this.#isShortResponse = true;
      // The end of the answer brings out what is kept of it.
      this.transmit(encodeRecord(recordTypes.BRIEF, Buffer.alloc(0)));
    }, heldBackMs);
    this.#echoTimer.unref();
  }

  #heardBack(bytes: Buffer): void {
    if (this.#echo === undefined || !bytes.equals(this.#echo)) return;
    this.#echo = undefined;
    this.#heardBackAt = performance.now();
    clearTimeout(this.#echoTimer);
  }

  /** What came together with the end of its answer was held back until then; what came before was only slow. */
  #judge(): void {
    this.#isSuspecting = false;
    const wasHeldBack = performance.now() - this.#heardBackAt < togetherMs;
    if (wasHeldBack || ++this.#suspicions === maxSuspicions) return this.#options.onHeldBack();
    this.#isShortResponse = false;
    this.#echoTimer = undefined;
    this.#askBack();
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

/** Shows that we know the secret of a carrier, without showing it, for this one request. */
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

/** An answer that is not whole: what was written into it may be lost. */
const cut = new Error('an answer was cut');

function refused(response: IncomingMessage): Error {
  response.destroy();
  return new Error(`answered ${response.statusCode}`);
}
