import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { CapsuleDecoder, capsuleHead, keepAliveCapsule, reasonCapsule } from '../protocol/capsule.ts';
import type { CapsuleCodes } from '../protocol/capsule.ts';
import { noRelease } from '../base/buffer-pool.ts';
import type { Release } from '../base/buffer-pool.ts';
import { abort, abortAfter, closeGently, connectionReset } from './close.ts';
import { readPooled } from './zero-copy/direct-reads.ts';
import type { DirectReadable } from './zero-copy/direct-reads.ts';
import { everyInterval, keepAliveMs } from './keep-alive.ts';
import { joined } from './zero-copy/pooled-reads.ts';
import type { Sink } from './zero-copy/pooled-reads.ts';
import { TunnelEnded, endText, receivedEnd } from './tunnel-ended.ts';

export interface CapsuleStreamOptions {
  readonly keepAliveMs?: number;
  /** Whether the peer is a gateway, which says why it ends a tunnel; a client's reason is skipped. Default: no. */
  readonly hearsReasons?: boolean;
}

/**
 * The tunnel inside a connection that carries capsules (RFC 9297): EOF travels as FINAL_DATA, so each direction ends by
 * itself, and an end of the connection without it is an abort, here an `ECONNRESET` error, or a `TunnelEnded` where a
 * gateway has given a reason. Takes over the socket: ending both ways closes it, destroying the stream aborts it, with a
 * `TunnelEnded` so that the peer learns the reason.
 */
export function capsuleStream(
  socket: Socket,
  codes: CapsuleCodes,
  options: CapsuleStreamOptions = {},
): Duplex {
  return new CapsuleStream(socket, codes, options);
}

class CapsuleStream extends Duplex implements DirectReadable {
  readonly #socket: Socket;
  readonly #codes: CapsuleCodes;
  readonly #decoder: CapsuleDecoder;
  readonly #hearsReasons: boolean;
  readonly #stopBeating: () => void;
  #isFull = false;
  #sink: Sink = (bytes) => this.push(bytes);

  constructor(socket: Socket, codes: CapsuleCodes, options: CapsuleStreamOptions) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.#hearsReasons = options.hearsReasons ?? false;
    this.#codes = codes;
    this.#decoder = new CapsuleDecoder(codes);
    this.#stopBeating = everyInterval(options.keepAliveMs ?? keepAliveMs, () => {
      if (socket.writable && socket.writableLength === 0) socket.write(keepAliveCapsule);
    });
    socket.on('data', (chunk: Buffer) => this.#receive(chunk, noRelease));
    socket.on('error', (error) => this.destroy(error));
    socket.on('end', () => this.#connectionEnded());
    socket.on('close', () => this.#connectionEnded());
    // A FIN that came before the tunnel has had its event already.
    if (socket.readableEnded || socket.destroyed) process.nextTick(() => this.#connectionEnded());
    socket.pause();
  }

  readDirect(sink: Sink): void {
    this.#sink = sink;
    readPooled(this.#socket, (chunk, release) => this.#receive(chunk, release));
    this.resume();
  }

  /** With a direct sink nothing is pushed that would make Node.js ask for more. */
  override resume(): this {
    this._read();
    return super.resume();
  }

  override _read(): void {
    this.#isFull = false;
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Release): void {
    this.#send(chunk, callback);
  }

  override _writev(chunks: { chunk: Buffer }[], callback: Release): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), callback);
  }

  override _final(callback: Release): void {
    this.#socket.write(capsuleHead(this.#codes.finalData, 0), callback);
  }

  override _destroy(error: Error | null, callback: Release): void {
    this.#stopBeating();
    if (error instanceof TunnelEnded) abortAfter(reasonCapsule(error.reason, endText(error)), this.#socket);
    else if (error || !this.#decoder.ended || !this.writableFinished) abort(this.#socket);
    else closeGently(this.#socket);
    callback(error);
  }

  #send(bytes: Buffer, callback: Release): void {
    if (bytes.length === 0) return callback();
    this.#socket.cork();
    this.#socket.write(capsuleHead(this.#codes.data, bytes.length));
    this.#socket.write(bytes, callback);
    this.#socket.uncork();
  }

  #receive(chunk: Buffer, release: Release): boolean {
    let useful = 0;
    let bytes: Buffer | undefined;
    try {
      for (const event of this.#decoder.push(chunk)) {
        if (event.kind === 'data') {
          if (event.bytes.length === 0) continue;
          bytes = joined(bytes, event.bytes);
          useful += event.bytes.length;
        } else if (event.kind === 'reason') {
          if (this.#hearsReasons) this.destroy(receivedEnd(event.reason, event.text));
        } else {
          if (bytes) this.#pass(bytes, noRelease);
          bytes = undefined;
          this.push(null);
        }
      }
      if (bytes) this.#pass(bytes, release);
    } catch (error) {
      this.destroy(error as Error);
    }
    // After the end nothing is kept, and a paused socket would not notice that its peer has closed.
    if (this.#isFull && !this.#decoder.ended) this.#socket.pause();
    else if (useful < chunk.length / 2) this.#yieldToOthers();
    return true;
  }

  #pass(bytes: Buffer, release: Release): void {
    if (!this.#sink(bytes, release)) this.#isFull = true;
  }

  /** Empty capsules cost more than the bytes they travel in: 64 KiB of them 5 ms, and Node.js reads 2 MiB at a time. */
  #yieldToOthers(): void {
    this.#socket.pause();
    setImmediate(() => {
      if (!this.#isFull || this.#decoder.ended) this.#socket.resume();
    });
  }

  #connectionEnded(): void {
    // After its FINAL_DATA the peer sends nothing more; it can still be reading, unless the socket is closed.
    if (this.#decoder.ended && (this.writableFinished || !this.#socket.destroyed)) return;
    this.destroy(connectionReset());
  }
}
