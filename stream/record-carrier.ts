import { encodeRecord, recordTypes } from '../protocol/record.ts';
import type { HttpRecord } from '../protocol/record.ts';
import { RelayViolation } from '../protocol/relay-frame.ts';
import type { RelayCodec, RelayFrame } from '../protocol/relay-frame.ts';
import { relayV1 } from '../protocol/relay-v1.ts';
import type { Carrier, CarrierEnd, CarrierListener } from './relay-carrier.ts';

/**
 * A carrier whose messages are the records of HTTP bodies. What is the same at both ends; how records get to the other
 * end is the business of whoever extends it.
 */
export abstract class RecordCarrier implements Carrier {
  readonly codec: RelayCodec = relayV1;
  /** Nobody is told anything more. */
  #over = false;
  #listener: CarrierListener | undefined;
  #held: RelayFrame[] = [];
  #heldEnd: CarrierEnd | undefined;

  abstract get waitingBytes(): number;

  /** Sends a record after those before it. */
  protected abstract transmit(record: Buffer): void;
  /** Sends what waits, waits for the other end a moment, and lets go. */
  protected abstract finish(): void;
  /** Lets go at once. */
  protected abstract release(): void;

  listen(listener: CarrierListener): void {
    this.#listener = listener;
    const held = this.#held;
    this.#held = [];
    for (const frame of held) this.#hear(frame);
    if (this.#heldEnd !== undefined) this.lost(this.#heldEnd);
  }

  hold(): void {
    this.#listener = undefined;
  }

  send(frame: RelayFrame): void {
    if (this.#over) return;
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
    if (!this.#over) this.#sendClose(code, '');
  }

  close(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#sendClose(code, reason);
    this.finish();
  }

  drop(): void {
    if (this.#over) return;
    this.#over = true;
    this.release();
  }

  protected get isOver(): boolean {
    return this.#over;
  }

  /** Takes a record that has arrived, in order. */
  protected take({ type, bytes }: HttpRecord): void {
    if (this.#over) return;
    if (type === recordTypes.CLOSE) return this.#takeClose(bytes);
    if (type !== recordTypes.TEXT && type !== recordTypes.BINARY) return;
    try {
      const frame = this.codec.decode(bytes, type === recordTypes.BINARY);
      if (frame !== undefined) this.#hear(frame);
    } catch (error) {
      this.#violated(error);
    }
  }

  /** Something that was sent is out of our hands. */
  protected wentOut(): void {
    if (!this.#over) this.#listener?.drained();
  }

  /** The way to the other end is no more. */
  protected lost(end: CarrierEnd): void {
    if (this.#over) return;
    if (this.#listener === undefined) return void (this.#heldEnd ??= end);
    this.#over = true;
    this.release();
    this.#listener.ended(end);
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

  #hear(frame: RelayFrame): void {
    if (this.#over) return;
    if (this.#listener === undefined) return void this.#held.push(frame);
    try {
      this.#listener.frame(frame);
    } catch (error) {
      this.#violated(error);
    }
  }

  #violated(error: unknown): void {
    if (!(error instanceof RelayViolation)) throw error;
    const listener = this.#listener;
    this.close(error.closeCode, error.message);
    listener?.ended({ how: 'violation', error });
  }
}
