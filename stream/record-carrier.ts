import { encodeRecord, recordTypes } from '../protocol/http-carrier-record.ts';
import type { HttpRecord } from '../protocol/http-carrier-record.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { relayV1 } from '../protocol/relay-v1.ts';
import { MessageCarrier } from './carrier.ts';

/**
 * A carrier whose messages are the records of HTTP bodies (docs/entry/http.md): the part that both ends share. A subclass
 * transports records: it implements `transmit` and `sendLast`, and calls `receiveRecord` for each one that arrives.
 */
export abstract class RecordCarrier extends MessageCarrier {
  readonly codec: RelayCodec = relayV1;

  /** Sends a record, in order. */
  protected abstract transmit(record: Buffer): void;
  /** Sends what waits, waits a moment for the peer, and releases the connections. */
  protected abstract sendLast(): void;

  send(frame: RelayFrame): void {
    if (this.isOver) return;
    const message = this.codec.encode(frame);
    if (message === undefined) return;
    const isText = typeof message === 'string';
    const bytes = isText ? Buffer.from(message, 'latin1') : message;
    this.transmit(encodeRecord(isText ? recordTypes.TEXT : recordTypes.BINARY, bytes));
  }

  /** Not needed: the relay has a window, and the peer sends no more than can be kept. */
  pause(): void {}

  resume(): void {}

  end(code: number): void {
    if (!this.isOver) this.#sendClose(code, '');
  }

  protected override finish(code: number, reason: string): void {
    this.#sendClose(code, reason);
    this.sendLast();
  }

  /** Receives a record, in order. */
  protected receiveRecord({ type, bytes }: HttpRecord): void {
    if (type === recordTypes.CLOSE) this.#receiveClose(bytes);
    else if (type === recordTypes.TEXT || type === recordTypes.BINARY)
      this.receive(bytes, type === recordTypes.BINARY);
  }

  #sendClose(code: number, reason: string): void {
    const bytes = Buffer.concat([Buffer.alloc(2), Buffer.from(reason)]);
    bytes.writeUInt16BE(code, 0);
    this.transmit(encodeRecord(recordTypes.CLOSE, bytes));
  }

  #receiveClose(bytes: Buffer): void {
    if (bytes.length < 2) return this.lost({ how: 'dropped' });
    this.lost({ how: 'closed', code: bytes.readUInt16BE(0), reason: bytes.subarray(2).toString() });
  }
}
