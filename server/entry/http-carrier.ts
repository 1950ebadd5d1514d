import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  RecordDecoder,
  encodeRecord,
  maxEchoBytes,
  recordTypes,
} from '../../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../../protocol/http-carrier-record.ts';
import { RecordCarrier } from '../../stream/record-carrier.ts';

/** How a client takes what the gateway sends: as it comes, or in short answers where something holds long ones back. */
export type AnswerStyle = 'streaming' | 'brief';

/** Who has no answer to write into for this long has lost its client. */
const unansweredMs = 20_000;
/** A brief answer that has nothing to say is given after this time; less than anybody on the way waits for one. */
const emptyAnswerMs = 20_000;
/** Who closes is over at once; a client that asks soon is told why. */
const reasonMs = 500;
/** An answer without end is one that somebody on the way would like to cut, or to look through when it is whole. */
const maxAnswerBytes = 32 * 1024 * 1024;
const maxAnswerMs = 5 * 60_000;
/** The most that one request may bring; our client sends less at a time. */
const maxRequestBytes = 1024 * 1024;
/** Some proxies pass on nothing before they have this much. */
const filler = encodeRecord(recordTypes.FILLER, Buffer.alloc(2048));
const next = encodeRecord(recordTypes.NEXT, Buffer.alloc(0));

/** The head of every answer that has records in it: nobody on the way may keep, change or compress it. */
export const recordHeaders = {
  'Content-Type': 'application/octet-stream',
  'Cache-Control': 'no-store, no-transform',
  'X-Accel-Buffering': 'no',
  'X-Content-Type-Options': 'nosniff',
} as const;

interface OpenAnswer {
  readonly response: ServerResponse;
  readonly style: AnswerStyle;
  readonly startedAt: number;
  bytes: number;
}

export interface InboundHttpCarrierOptions {
  readonly unansweredMs?: number;
  readonly emptyAnswerMs?: number;
  /** Its id begins with the name of the process that has it. */
  readonly instance?: string;
  /** Told when nobody can reach it any more. */
  readonly onRelease: (carrier: InboundHttpCarrier) => void;
}

/**
 * The gateway's end of a carrier by plain HTTP. What it sends goes into one answer after the other, what the client
 * sends comes in one request after the other; both are numbered, and each number is good once.
 */
export class InboundHttpCarrier extends RecordCarrier {
  readonly id: string;
  readonly #secret = randomBytes(32).toString('base64url');
  readonly #options: InboundHttpCarrierOptions;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #answer: OpenAnswer | undefined;
  /** How many there were of each; the one for the request that opened it is the first answer. */
  #answers = 0;
  #requests = 0;
  #isReading = false;
  #flushing: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isFinishing = false;
  #isGone = false;

  constructor(options: InboundHttpCarrierOptions) {
    super();
    this.#options = options;
    const { instance = '' } = options;
    this.id = instance + randomBytes(16).toString('base64url').slice(instance.length);
    this.transmit(encodeRecord(recordTypes.CARRIER, Buffer.from(`id=${this.id} secret=${this.#secret}`)));
  }

  get waitingBytes(): number {
    const { response, style } = this.#answer ?? {};
    return this.#queuedBytes + (style === 'streaming' ? response!.writableLength : 0);
  }

  /** Whether whoever signed this knows the secret. */
  isSigned(way: string, number: number, mac: string): boolean {
    const expected = createHmac('sha256', this.#secret)
      .update(`postern-carrier\n${this.id}\n${way}\n${number}`)
      .digest();
    const given = Buffer.from(mac, 'base64url');
    return given.length === expected.length && timingSafeEqual(given, expected);
  }

  /** Whether the client may ask for this answer now. */
  expectsAnswer(number: number): boolean {
    return number === this.#answers && this.#answer === undefined;
  }

  /** Whether the client may bring this request now. */
  expectsRequest(number: number): boolean {
    return number === this.#requests && !this.#isReading;
  }

  /** Writes what it sends into the answer, which it takes over. */
  answer(response: ServerResponse, style: AnswerStyle): void {
    this.#answers++;
    const answer: OpenAnswer = { response, style, startedAt: performance.now(), bytes: 0 };
    this.#answer = answer;
    // Silence is nothing strange here, and the pings of the relay tell who is there.
    response.socket?.setTimeout(0);
    response.socket?.setNoDelay(true);
    response.on('error', () => {});
    response.once('close', () => this.#closed(answer));
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (style === 'streaming') {
      response.writeHead(200, recordHeaders);
      this.#write(answer, filler);
    } else {
      this.#timer = setTimeout(() => this.#endAnswer(), this.#options.emptyAnswerMs ?? emptyAnswerMs);
      this.#timer.unref();
    }
    this.#flushSoon();
  }

  /** Takes the records of a request. Resolves when all have been taken; rejects, and ends the carrier, when they cannot be. */
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
    if (this.#isGone) return;
    this.#isGone = true;
    clearTimeout(this.#timer);
    clearImmediate(this.#flushing);
    this.#queue = [];
    this.#queuedBytes = 0;
    const answer = this.#answer;
    this.#answer = undefined;
    if (answer && !answer.response.writableEnded) answer.response.destroy();
    this.#options.onRelease(this);
  }

  #receiveRecord(record: HttpRecord): void {
    if (record.type === recordTypes.BRIEF) this.#endAnswer();
    else if (record.type === recordTypes.ECHO)
      this.transmit(encodeRecord(recordTypes.ECHO_REPLY, record.bytes.subarray(0, maxEchoBytes)));
    else this.receiveRecord(record);
  }

  /** What is said in one turn goes out together. */
  #flushSoon(): void {
    if (this.#answer === undefined || this.#queue.length === 0) return;
    this.#flushing ??= setImmediate(() => {
      this.#flushing = undefined;
      this.#flush();
    });
  }

  #flush(): void {
    const answer = this.#answer;
    if (answer === undefined || this.#queue.length === 0) return;
    if (answer.style === 'brief' || this.#isFinishing) return this.#endAnswer();
    this.#write(answer, ...this.#takeQueue());
    const isLong = answer.bytes > maxAnswerBytes || performance.now() - answer.startedAt > maxAnswerMs;
    if (isLong) this.#endAnswer();
  }

  #write(answer: OpenAnswer, ...records: Buffer[]): void {
    const { response } = answer;
    response.cork();
    records.forEach((record, at) => {
      answer.bytes += record.length;
      if (at < records.length - 1) response.write(record);
      else response.write(record, () => this.wentOut());
    });
    response.uncork();
  }

  #takeQueue(): Buffer[] {
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    return queue;
  }

  /** Gives the open answer its end; the client then asks for the next one. */
  #endAnswer(): void {
    const answer = this.#answer;
    if (answer === undefined) return;
    clearTimeout(this.#timer);
    this.#answer = undefined;
    const { response, style } = answer;
    const records = [...this.#takeQueue(), ...(this.#isFinishing ? [] : [next])];
    if (style === 'streaming') {
      this.#write(answer, ...records);
      response.end();
    } else {
      const body = Buffer.concat(records);
      response.writeHead(200, { ...recordHeaders, 'Content-Length': body.length });
      response.end(body, () => this.wentOut());
    }
    this.#timer = setTimeout(() => this.lost({ how: 'dropped' }), this.#options.unansweredMs ?? unansweredMs);
    this.#timer.unref();
  }

  #closed({ response }: OpenAnswer): void {
    // What had been written may have been lost with the connection.
    if (!response.writableFinished) this.lost({ how: 'dropped' });
  }
}

/** The carriers that clients may ask for by their id. */
export class HttpCarriers {
  readonly #carriers = new Map<string, InboundHttpCarrier>();
  readonly #instance: string;

  /** `instance` names this process in their ids; the rest of an id is random, and who knows it can do nothing with it. */
  constructor(instance = '') {
    this.#instance = instance;
  }

  open(options: Omit<InboundHttpCarrierOptions, 'onRelease' | 'instance'> = {}): InboundHttpCarrier {
    const instance = this.#instance;
    const carrier = new InboundHttpCarrier({
      ...options,
      instance,
      onRelease: ({ id }) => this.#carriers.delete(id),
    });
    this.#carriers.set(carrier.id, carrier);
    return carrier;
  }

  find(id: string): InboundHttpCarrier | undefined {
    return this.#carriers.get(id);
  }
}
