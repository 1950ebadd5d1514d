import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { endReasons, reasonOfCloseCode } from '../protocol/end-reason.ts';
import { noRelease } from '../base/buffer-pool.ts';
import type { Release } from '../base/buffer-pool.ts';
import { afterReason, connectionReset, destroyAfterEnd } from './close.ts';
import type { DirectReadable } from './zero-copy/direct-reads.ts';
import { everyInterval, keepAliveMs } from './keep-alive.ts';
import { joined } from './zero-copy/pooled-reads.ts';
import { usesZeroCopy } from './zero-copy/setting.ts';
import { maxMessageBytes, readMessages, writeMessages } from './zero-copy/websocket-data.ts';
import type { Sink } from './zero-copy/pooled-reads.ts';
import { TunnelEnded, endText, receivedEnd } from './tunnel-ended.ts';
import { isOfPrograms, onceClosed } from './websocket-close.ts';

/** The subprotocol in which an empty binary message is the sender's EOF. */
export const eofSubprotocol = 'postern.tcp.v1';

const closedLingerMs = 30_000;

export interface WebSocketStreamOptions {
  /**
   * How our EOF is sent. `message`: an empty binary message, after which the peer can go on sending.
   * `close`: a Close frame, for peers without the subprotocol; their Close 1000 is then their EOF.
   */
  readonly eof: 'message' | 'close';
  /** The connection of an inbound WebSocket: ordinary messages are then read and written without `ws`. */
  readonly connection?: Socket;
  /** Whether the peer is a gateway, whose close codes say why it ends a tunnel; a client's never do. Default: no. */
  readonly hearsReasons?: boolean;
  readonly keepAliveMs?: number;
  /** How long the reader of an EOF that came by Close can go on writing, though it goes nowhere. */
  readonly lingerMs?: number;
}

/**
 * The tunnel inside a WebSocket whose binary messages are its bytes. Call it synchronously in `open`: earlier messages are
 * lost. An empty message is always the peer's EOF. A connection that ends without EOF is an `ECONNRESET` error, as is a
 * peer that sends nothing and answers no ping; where a gateway gives a reason for the end, a `TunnelEnded`. Takes over the
 * WebSocket: ending both ways closes it, destroying the stream aborts it, with a `TunnelEnded` so that the peer learns
 * the reason.
 */
export function webSocketStream(socket: WebSocket, options: WebSocketStreamOptions): Duplex {
  return new WebSocketStream(socket, options);
}

class WebSocketStream extends Duplex implements DirectReadable {
  readonly #socket: WebSocket;
  readonly #connection: Socket | undefined;
  readonly #eof: 'message' | 'close';
  readonly #hearsReasons: boolean;
  readonly #lingerMs: number;
  readonly #stopBeating: () => void;
  /** Whether bytes were asked for, so that `ws` can be inside a frame; `ended` when the peer's EOF has arrived. */
  #reading: 'unread' | 'begun' | 'ended' = 'unread';
  #unanswered = 0;
  #peerHasClosed = false;
  #sink: Sink = (bytes) => this.push(bytes);
  /** The payload of what is being read, as far as it has been. */
  #payload: Buffer | undefined;

  constructor(socket: WebSocket, options: WebSocketStreamOptions) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.#connection = usesZeroCopy() ? options.connection : undefined;
    this.#eof = options.eof;
    this.#hearsReasons = options.hearsReasons ?? false;
    this.#lingerMs = options.lingerMs ?? closedLingerMs;
    this.#stopBeating = everyInterval(options.keepAliveMs ?? keepAliveMs, () => this.#sendPing());
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on('pong', () => (this.#unanswered = 0));
    socket.on('error', (error) => this.destroy(error));
    onceClosed(socket, isOfPrograms, (code, text) => {
      this.#peerHasClosed = code !== 1006;
      this.#connectionEnded(code, text);
    });
    socket.pause();
  }

  readDirect(sink: Sink): void {
    this.#sink = sink;
    if (this.#connection && this.#reading === 'unread')
      readMessages(this.#connection, {
        maxBytes: maxMessageBytes,
        payload: (bytes) => this.#receivePayload(bytes),
        whole: (release) => this.#passPayload(release),
      });
    this.resume();
  }

  /** With a direct sink nothing is pushed that would make Node.js ask for more. */
  override resume(): this {
    this._read();
    return super.resume();
  }

  override _read(): void {
    if (this.#reading === 'unread') this.#reading = 'begun';
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Release): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return callback(connectionReset());
    // An empty message would be our EOF.
    if (chunk.length === 0) return callback();
    if (this.#connection) return writeMessages(this.#connection, chunk, callback);
    for (let at = maxMessageBytes; at < chunk.length; at += maxMessageBytes) {
      this.#socket.send(chunk.subarray(at - maxMessageBytes, at), { binary: true }, ignore);
    }
    const last = chunk.subarray(Math.floor((chunk.length - 1) / maxMessageBytes) * maxMessageBytes);
    this.#socket.send(last, { binary: true }, callback);
  }

  override _final(callback: Release): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return callback();
    if (this.#eof === 'message') return this.#socket.send(Buffer.alloc(0), { binary: true }, callback);
    this.#socket.close(1000);
    callback();
  }

  override _destroy(error: Error | null, callback: Release): void {
    this.#stopBeating();
    if (error instanceof TunnelEnded) this.#closeBecause(error);
    else if (this.#peerHasClosed) afterReason(this.#socket, () => this.#socket.terminate());
    else if (error || this.#reading !== 'ended' || !this.writableFinished) this.#socket.terminate();
    else this.#socket.close(1000);
    // A paused WebSocket would never read the peer's Close frame.
    this.#socket.resume();
    callback(error);
  }

  #closeBecause(end: TunnelEnded): void {
    this.#socket.close(endReasons[end.reason].closeCode, endText(end));
    afterReason(this.#socket, () => this.#socket.terminate());
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (this.destroyed) return;
    // A peer that sends is alive; its answer to a ping may be far behind.
    this.#unanswered = 0;
    if (!isBinary) return this.#refuse(1003, 'a text message');
    if (data.length === 0) return this.#receiveEnd();
    if (this.#reading === 'ended') return this.#refuse(1002, 'data after the end');
    if (!this.#sink(data, noRelease)) this.#socket.pause();
  }

  #receivePayload(bytes: Buffer): void {
    if (this.destroyed) return;
    this.#unanswered = 0;
    if (this.#reading === 'ended') return this.#refuse(1002, 'data after the end');
    this.#payload = joined(this.#payload, bytes);
  }

  #passPayload(release: Release): void {
    const payload = this.#payload;
    this.#payload = undefined;
    if (payload !== undefined && !this.#sink(payload, release)) this.#socket.pause();
  }

  #receiveEnd(): void {
    if (this.#reading === 'ended') return;
    this.#reading = 'ended';
    this.push(null);
  }

  #refuse(closeCode: number, what: string): void {
    this.#socket.close(closeCode, what);
    this.destroy(new Error(`the peer sent ${what}`));
  }

  #connectionEnded(code: number, text: string): void {
    // 1005: a Close frame without a code.
    const isOrderly =
      this.#reading === 'ended' || (this.#eof === 'close' && (code === 1000 || code === 1005));
    if (!isOrderly) {
      const reason = this.#hearsReasons ? reasonOfCloseCode(code) : undefined;
      return void this.destroy(reason ? receivedEnd(reason, text) : connectionReset());
    }
    this.#stopBeating();
    this.#receiveEnd();
    if (this.writableFinished) return;
    // What is still to be written cannot arrive. From a peer that sends its EOF as a message, that is an abort.
    if (this.#eof === 'message') return void this.destroy(connectionReset());
    // From the others it was the EOF.
    destroyAfterEnd(this, this.#lingerMs);
  }

  #sendPing(): void {
    // Bytes that wait to be written keep the connection alive, and a peer that does not read has not seen our pings.
    if (this.#socket.bufferedAmount > 0) return void (this.#unanswered = 0);
    if (this.#unanswered >= 2 && !this.#socket.isPaused) return void this.destroy(connectionReset());
    // While we do not read, for back-pressure, answers wait with everything else; a dead connection is still noticed.
    this.#unanswered = this.#socket.isPaused ? 0 : this.#unanswered + 1;
    this.#socket.ping(undefined, undefined, ignore);
  }
}

/** A failed send also closes the WebSocket, and that is where it is handled. */
const ignore: Release = () => {};
