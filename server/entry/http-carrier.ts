import { createHmac, randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { equalInConstantTime } from '../../base/constant-time.ts';
import {
  RecordDecoder,
  encodeRecord,
  maxEchoBytes,
  recordTypes,
} from '../../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../../protocol/http-carrier-record.ts';
import { RecordCarrier } from '../../stream/record-carrier.ts';

/** How a client fetches what the gateway sends: as it comes, or in short responses where an intermediary buffers long ones. */
export type ResponseStyle = 'streaming' | 'brief';

/** No open response for this long: the client is gone. */
const noResponseMs = 20_000;
/** A brief response without content is sent after this time, before any intermediary times out. */
const emptyResponseMs = 20_000;
/** Time for the client to fetch the close reason; the carrier itself has ended at once. */
const reasonMs = 500;
/** Intermediaries cut endless responses, or buffer them to inspect them whole: end each at this size and age. */
const maxResponseBytes = 32 * 1024 * 1024;
const maxResponseMs = 5 * 60_000;
/** The maximum size of one request; our client sends less at a time. */
const maxRequestBytes = 1024 * 1024;
/** Some proxies forward nothing before they have this much. */
const filler = encodeRecord(recordTypes.FILLER, Buffer.alloc(2048));
const next = encodeRecord(recordTypes.NEXT, Buffer.alloc(0));

/** The headers of every response with records in it: intermediaries must not store, change or compress it. */
export const recordHeaders = {
  'Content-Type': 'application/octet-stream',
  'Cache-Control': 'no-store, no-transform',
  'X-Accel-Buffering': 'no',
  'X-Content-Type-Options': 'nosniff',
} as const;

interface OpenResponse {
  readonly response: ServerResponse;
  readonly style: ResponseStyle;
  readonly startedAt: number;
  bytes: number;
}

export interface InboundHttpCarrierOptions {
  readonly noResponseMs?: number;
  readonly emptyResponseMs?: number;
  /** Its id begins with the name of the process that has it. */
  readonly instance?: string;
  /** Called when it can no longer be reached. */
  readonly onReleased: (carrier: InboundHttpCarrier) => void;
}

/**
 * The gateway's end of a carrier by plain HTTP. What it sends goes into one response after the other, what the client
 * sends comes in one request after the other; both are numbered, and each number is valid once.
 */
export class InboundHttpCarrier extends RecordCarrier {
  readonly id: string;
  readonly #secret = randomBytes(32).toString('base64url');
  readonly #options: InboundHttpCarrierOptions;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #response: OpenResponse | undefined;
  /** Counts of both so far; the response to the request that opened the carrier is the first. */
  #responses = 0;
  #requests = 0;
  #isReading = false;
  #flushing: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isFinishing = false;
  #isReleased = false;

  constructor(options: InboundHttpCarrierOptions) {
    super();
    this.#options = options;
    const { instance = '' } = options;
    this.id = instance + randomBytes(16).toString('base64url').slice(instance.length);
    this.transmit(encodeRecord(recordTypes.CARRIER, Buffer.from(`id=${this.id} secret=${this.#secret}`)));
  }

  get waitingBytes(): number {
    const { response, style } = this.#response ?? {};
    return this.#queuedBytes + (style === 'streaming' ? response!.writableLength : 0);
  }

  /** Whether the signer of this request knows the secret. */
  isSigned(direction: string, number: number, mac: string): boolean {
    const expected = createHmac('sha256', this.#secret)
      .update(`postern-carrier\n${this.id}\n${direction}\n${number}`)
      .digest();
    return equalInConstantTime(Buffer.from(mac, 'base64url'), expected);
  }

  /** Whether the client is allowed to fetch this response now. */
  expectsResponse(number: number): boolean {
    return number === this.#responses && this.#response === undefined;
  }

  /** Whether the client is allowed to send this request now. */
  expectsRequest(number: number): boolean {
    return number === this.#requests && !this.#isReading;
  }

  /** Writes what it sends into the response, which it takes over. */
  respond(response: ServerResponse, style: ResponseStyle): void {
    this.#responses++;
    const open: OpenResponse = { response, style, startedAt: performance.now(), bytes: 0 };
    this.#response = open;
    // Silence is normal here, and the relay's own pings detect a dead client.
    response.socket?.setTimeout(0);
    response.socket?.setNoDelay(true);
    response.on('error', () => {});
    response.once('close', () => this.#closed(open));
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (style === 'streaming') {
      response.writeHead(200, recordHeaders);
      this.#write(open, filler);
    } else {
      this.#timer = setTimeout(() => this.#endResponse(), this.#options.emptyResponseMs ?? emptyResponseMs);
      this.#timer.unref();
    }
    this.#flushSoon();
  }

  /** Receives the records of a request. Resolves when all have been received; rejects, and ends the carrier, when they cannot be read. */
  async read(request: IncomingMessage): Promise<void> {
    this.#requests++;
    this.#isReading = true;
    try {
      const decoder = new RecordDecoder();
      let bytes = 0;
      for await (const chunk of request as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > maxRequestBytes) throw new RangeError(`a request of more than ${maxRequestBytes} bytes`);
        for (const record of decoder.push(chunk)) this.#receiveRecord(record);
      }
      if (!decoder.isBetween) throw new RangeError('a request that ends within a record');
    } catch (error) {
      this.lost({ how: 'reset' });
      throw error;
    } finally {
      this.#isReading = false;
    }
  }

  protected override transmit(record: Buffer): void {
    this.#queue.push(record);
    this.#queuedBytes += record.length;
    this.#flushSoon();
  }

  protected override sendLast(): void {
    this.#isFinishing = true;
    this.#flushSoon();
    const timer = setTimeout(() => this.release(), reasonMs);
    timer.unref();
  }

  protected override release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    clearTimeout(this.#timer);
    clearImmediate(this.#flushing);
    this.#queue = [];
    this.#queuedBytes = 0;
    const open = this.#response;
    this.#response = undefined;
    if (open && !open.response.writableEnded) open.response.destroy();
    this.#options.onReleased(this);
  }

  #receiveRecord(record: HttpRecord): void {
    if (record.type === recordTypes.BRIEF) this.#endResponse();
    else if (record.type === recordTypes.ECHO)
      this.transmit(encodeRecord(recordTypes.ECHO_REPLY, record.bytes.subarray(0, maxEchoBytes)));
    else this.receiveRecord(record);
  }

  /** Records of one turn of the event loop are sent together. */
  #flushSoon(): void {
    if (this.#response === undefined || this.#queue.length === 0) return;
    this.#flushing ??= setImmediate(() => {
      this.#flushing = undefined;
      this.#flush();
    });
  }

  #flush(): void {
    const open = this.#response;
    if (open === undefined || this.#queue.length === 0) return;
    if (open.style === 'brief' || this.#isFinishing) return this.#endResponse();
    this.#write(open, ...this.#drainQueue());
    const isLong = open.bytes > maxResponseBytes || performance.now() - open.startedAt > maxResponseMs;
    if (isLong) this.#endResponse();
  }

  #write(open: OpenResponse, ...records: Buffer[]): void {
    const { response } = open;
    response.cork();
    records.forEach((record, at) => {
      open.bytes += record.length;
      if (at < records.length - 1) response.write(record);
      else response.write(record, () => this.wentOut());
    });
    response.uncork();
  }

  #drainQueue(): Buffer[] {
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    return queue;
  }

  /** Ends the open response; the client then fetches the next one. */
  #endResponse(): void {
    const open = this.#response;
    if (open === undefined) return;
    clearTimeout(this.#timer);
    this.#response = undefined;
    const { response, style } = open;
    const records = [...this.#drainQueue(), ...(this.#isFinishing ? [] : [next])];
    if (style === 'streaming') {
      this.#write(open, ...records);
      response.end();
    } else {
      const body = Buffer.concat(records);
      response.writeHead(200, { ...recordHeaders, 'Content-Length': body.length });
      response.end(body, () => this.wentOut());
    }
    this.#timer = setTimeout(() => this.lost({ how: 'dropped' }), this.#options.noResponseMs ?? noResponseMs);
    this.#timer.unref();
  }

  #closed({ response }: OpenResponse): void {
    // What had been written can be lost with the connection.
    if (!response.writableFinished) this.lost({ how: 'dropped' });
  }
}

/** The open carriers by their id. */
export class HttpCarriers {
  readonly #carriers = new Map<string, InboundHttpCarrier>();
  readonly #instance: string;

  /** `instance` names this process in their ids; the rest of an id is random, and knowing it gives no access. */
  constructor(instance = '') {
    this.#instance = instance;
  }

  open(options: Omit<InboundHttpCarrierOptions, 'onReleased' | 'instance'> = {}): InboundHttpCarrier {
    const instance = this.#instance;
    const carrier = new InboundHttpCarrier({
      ...options,
      instance,
      onReleased: ({ id }) => this.#carriers.delete(id),
    });
    this.#carriers.set(carrier.id, carrier);
    return carrier;
  }

  find(id: string): InboundHttpCarrier | undefined {
    return this.#carriers.get(id);
  }
}
