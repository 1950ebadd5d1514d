import { encodeRecord, recordTypes } from '../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../protocol/http-carrier-record.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { relayV1 } from '../protocol/relay-v1.ts';
import { MessageCarrier } from './carrier.ts';

/**
 * A carrier whose messages are the records of HTTP bodies. What is the same at both ends; how records get to the other
 * end is the business of whoever extends it.
 */
export abstract class RecordCarrier extends MessageCarrier {
  readonly codec: RelayCodec = relayV1;

  /** Sends a record after those before it. */
  protected abstract transmit(record: Buffer): void;
  /** Sends what waits, waits for the other end a moment, and lets go. */
  protected abstract sendLast(): void;

  send(frame: RelayFrame): void {
    if (this.isOver) return;
    const message = this.codec.encode(frame);
    if (message === undefined) return;
    const isText = typeof message === 'string';
    const bytes = isText ? Buffer.from(message, 'latin1') : message;
    this.transmit(encodeRecord(isText ? recordTypes.TEXT : recordTypes.BINARY, bytes));
  }

  /** The relay has windows: nobody sends more than we can keep. */
  pause(): void {}

  resume(): void {}

  end(code: number): void {
    if (!this.isOver) this.#sendClose(code, '');
  }

  protected override finish(code: number, reason: string): void {
    this.#sendClose(code, reason);
    this.sendLast();
  }

  /** Takes a record that has arrived, in order. */
  protected takeRecord({ type, bytes }: HttpRecord): void {
    if (type === recordTypes.CLOSE) this.#takeClose(bytes);
    else if (type === recordTypes.TEXT || type === recordTypes.BINARY)
      this.receive(bytes, type === recordTypes.BINARY);
  }

  #sendClose(code: number, reason: string): void {
    const bytes = Buffer.concat([Buffer.alloc(2), Buffer.from(reason)]);
    bytes.writeUInt16BE(code, 0);
    this.transmit(encodeRecord(recordTypes.CLOSE, bytes));
  }

  #takeClose(bytes: Buffer): void {
    if (bytes.length < 2) return this.lost({ how: 'dropped' });
    this.lost({ how: 'closed', code: bytes.readUInt16BE(0), reason: bytes.subarray(2).toString() });
  }
}
