import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { endReasons, reasonOfCloseCode } from '../protocol/end-reason.ts';
import { connectionReset } from './capsule-stream.ts';
import { afterReason } from './close.ts';
import type { DirectReadable } from './zero-copy/direct-reads.ts';
import { everyInterval, keepAliveMs } from './keep-alive.ts';
import { joined, ignore as noRelease } from './zero-copy/pooled-reads.ts';
import { maxMessageBytes, readMessages, writeMessages } from './zero-copy/websocket-data.ts';
import type { Release, Sink } from './zero-copy/pooled-reads.ts';
import { TunnelEnded, tunnelEnded } from './tunnel-ended.ts';

/** The subprotocol in which an empty binary message is the sender's EOF. */
export const eofSubprotocol = 'postern.tcp.v1';

const closedLingerMs = 30_000;

type Callback = (error?: Error | null) => void;

export interface WebSocketStreamOptions {
  /**
   * How our EOF is told. `message`: an empty binary message, after which the peer may go on sending.
   * `close`: a Close frame, for peers that know nothing better; their Close 1000 is then their EOF.
   */
  readonly eof: 'message' | 'close';
  /** What a WebSocket that came to us reads from: plain messages are then read and written without `ws`. */
  readonly connection?: Socket;
  readonly keepAliveMs?: number;
  /** How long the reader of an EOF that came by Close may go on writing, to nobody. */
  readonly lingerMs?: number;
}

/**
 * The tunnel inside a WebSocket whose binary messages are its bytes. Call it in the very tick of `open`: messages that
 * come earlier are lost. An empty message is always the peer's EOF. A connection that ends without EOF is an
 * `ECONNRESET` error, as is a peer that sends nothing and answers no ping; where the peer says why it ends the tunnel,
 * a `TunnelEnded`. Takes the WebSocket over: ending both ways closes it, destroying the stream aborts it, with a
 * `TunnelEnded` so that the peer learns the reason.
 */
export function webSocketStream(socket: WebSocket, options: WebSocketStreamOptions): Duplex {
  return new WebSocketStream(socket, options);
}

class WebSocketStream extends Duplex implements DirectReadable {
  readonly #socket: WebSocket;
  readonly #connection: Socket | undefined;
  readonly #eof: 'message' | 'close';
  readonly #lingerMs: number;
  readonly #stopBeating: () => void;
  #received = false;
  #unanswered = 0;
  /** Somebody has read: `ws` may be inside a frame. */
  #begun = false;
  #take: Sink = (bytes) => this.push(bytes);
  /** The payload of what is read now, as far as it is read. */
  #read: Buffer | undefined;

  constructor(socket: WebSocket, options: WebSocketStreamOptions) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.#connection = options.connection;
    this.#eof = options.eof;
    this.#lingerMs = options.lingerMs ?? closedLingerMs;
    this.#stopBeating = everyInterval(options.keepAliveMs ?? keepAliveMs, () => this.#beat());
    socket.on('message', (data: Buffer, isBinary: boolean) => this.#receive(data, isBinary));
    socket.on('pong', () => (this.#unanswered = 0));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', (code: number) => this.#connectionEnded(code));
    socket.pause();
  }

  readDirect(take: Sink): void {
    this.#take = take;
    if (this.#connection && !this.#begun)
      readMessages(this.#connection, {
        mostBytes: maxMessageBytes,
        payload: (bytes) => this.#receivePayload(bytes),
        whole: (release) => this.#handRead(release),
      });
    this.resume();
  }

  /** Where bytes are handed over, nothing is pushed that would make Node.js ask for more. */
  override resume(): this {
    this._read();
    return super.resume();
  }

  override _read(): void {
    this.#begun = true;
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
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

  override _final(callback: Callback): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return callback();
    if (this.#eof === 'message') return this.#socket.send(Buffer.alloc(0), { binary: true }, callback);
    this.#socket.close(1000);
    callback();
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#stopBeating();
    if (error instanceof TunnelEnded) this.#closeBecause(error);
    else if (error || !this.#received || !this.writableFinished) this.#socket.terminate();
    else this.#socket.close(1000);
    // A paused WebSocket would never read the peer's Close frame.
    this.#socket.resume();
    callback(error);
  }

  #closeBecause({ reason }: TunnelEnded): void {
    this.#socket.close(endReasons[reason].closeCode, reason);
    afterReason(this.#socket, () => this.#socket.terminate());
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (this.destroyed) return;
    // Whoever sends is alive; its answer to a ping may be far behind.
    this.#unanswered = 0;
    if (!isBinary) return this.#refuse(1003, 'a text message');
    if (data.length === 0) return this.#receiveEnd();
    if (this.#received) return this.#refuse(1002, 'data after the end');
    if (!this.#take(data, noRelease)) this.#socket.pause();
  }

  #receivePayload(bytes: Buffer): void {
    if (this.destroyed) return;
    this.#unanswered = 0;
    if (this.#received) return this.#refuse(1002, 'data after the end');
    this.#read = joined(this.#read, bytes);
  }

  #handRead(release: Release): void {
    const read = this.#read;
    this.#read = undefined;
    if (read !== undefined && !this.#take(read, release)) this.#socket.pause();
  }

  #receiveEnd(): void {
    if (this.#received) return;
    this.#received = true;
    this.push(null);
  }

  #refuse(closeCode: number, what: string): void {
    this.#socket.close(closeCode, what);
    this.destroy(new Error(`the peer sent ${what}`));
  }

  #connectionEnded(code: number): void {
    // 1005: a Close frame without a code.
    const orderly = this.#received || (this.#eof === 'close' && (code === 1000 || code === 1005));
    if (!orderly) {
      const reason = reasonOfCloseCode(code);
      return void this.destroy(reason ? tunnelEnded(reason) : connectionReset());
    }
    this.#stopBeating();
    this.#receiveEnd();
    if (this.writableFinished) return;
    // What is still to be written cannot arrive. To a peer that says EOF by a message, that is an abort.
    if (this.#eof === 'message') return void this.destroy(connectionReset());
    // Of the others it was the EOF. Who reads it may close in its own time, but not keep the tunnel for ever.
    if (this.readableEnded) this.#linger();
    else this.once('end', () => this.#linger());
  }

  #linger(): void {
    setTimeout(() => this.destroy(connectionReset()), this.#lingerMs).unref();
  }

  #beat(): void {
    // What waits to be written is a beat itself, and a peer that does not read has not seen our pings.
    if (this.#socket.bufferedAmount > 0) return void (this.#unanswered = 0);
    if (this.#unanswered >= 2 && !this.#socket.isPaused) return void this.destroy(connectionReset());
    // While we do not read, for back-pressure, answers wait with everything else; a dead connection still shows.
    this.#unanswered = this.#socket.isPaused ? 0 : this.#unanswered + 1;
    this.#socket.ping(undefined, undefined, ignore);
  }
}

/** A failed send also closes the WebSocket, and that is where it is handled. */
const ignore: Callback = () => {};
