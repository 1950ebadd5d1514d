import { Buffer } from 'node:buffer';
import { Duplex } from 'node:stream';
import { endReasons, reasonOfCloseCode } from '../protocol/end-reason.ts';
import { Relay } from '../protocol/relay.ts';
import { RelayViolation, relayCloseCodes } from '../protocol/relay-frame.ts';
import type { RelayFrame } from '../protocol/relay-frame.ts';
import { connectionReset } from './capsule-stream.ts';
import type { DirectReadable } from './zero-copy/direct-reads.ts';
import { ReceiveBuffer } from './receive-buffer.ts';
import { everyInterval, keepAliveMs } from './keep-alive.ts';
import { ignore } from './zero-copy/pooled-reads.ts';
import type { Release, Sink } from './zero-copy/pooled-reads.ts';
import type { Carrier, CarrierEnd } from './carrier.ts';
import { TunnelEnded, tunnelEnded } from './tunnel-ended.ts';
import { LivenessMonitor } from './liveness.ts';

/** The close code of `postern.relay.v1` for a tunnel that was broken off, which is not to be resumed. */
export const abortedCloseCode = 4410;

/** Bytes that may wait in a connection before we wait too. */
const maxWaitingBytes = 256 * 1024;

/** Above this, pings wait for their answer: who does not read the answers gets one to all of them. */
const maxPongBytes = 4096;

/**
 * After a loss, messages are no longer than this until one was acknowledged: of a message that is cut nothing arrives, and
 * a network that cuts everything after some kilobytes would get nowhere with long ones.
 */
const cautiousBytes = 4096;

/** What has been taken is acknowledged after this time at the latest. */
const acknowledgeMs = 200;

/** What waits for the reader is handed over in portions of about this much, of however many messages it is. */
const portionBytes = 64 * 1024;

/** Who reads the end of a peer of relay v4 may go on writing this long, to nobody. */
const leftLingerMs = 30_000;

/** A peer that leaves two pings unanswered is gone. */
const mostUnanswered = 2;

/** What all resumable tunnels of a process keep for sending it again. */
export interface ReplayBudget {
  /** Counts bytes that are kept, or, below zero, are not any more. */
  add(bytes: number): void;
  /** Whether there is more than there may be. A tunnel then keeps next to nothing. */
  readonly isOver: boolean;
}

export interface RelayStreamOptions {
  /** Whether the peer knows windows, EOF and pings (`postern.relay.v1`), or none of them (relay v4). */
  readonly isV4: boolean;
  readonly windowBytes: number;
  readonly keepAliveMs?: number;
  readonly budget?: ReplayBudget;
  /** Told when a carrier has gone and the tunnel waits for another one. */
  readonly onDetached?: (end: CarrierEnd) => void;
  /** Told when the peer asks for another carrier. */
  readonly onReconnectRequested?: () => void;
  /** Told when the peer owes an answer and nothing comes; the carrier is kept. */
  readonly onUnresponsive?: () => void;
  /** Told when something has come on that carrier after all. */
  readonly onRecovered?: () => void;
}

/** The code and the reason of the Close frame. */
type CloseReason = readonly [code: number, reason: string];

type Callback = (error?: Error | null) => void;

/**
 * Relay v4: while the peer's data, which nobody takes, keeps us from hearing its acknowledgements, this much may be kept: as
 * much as the buffers of two kernels can hold of the data before them. A target that answers all it gets (`cat`) takes
 * nothing while its answers are not taken; with less, each would wait for the other for ever.
 */
const mostStuckBytes = 16 * 1024 * 1024;

/** Below this a tunnel may keep bytes even when all of them together keep too many. */
const leastKeptBytes = 64 * 1024;

/**
 * A tunnel that outlives its connections. Carriers are attached and get lost; bytes go on where they stopped. What the
 * stream has taken it keeps until the peer has acknowledged it; beyond the window, writing waits. It finishes when the
 * peer has taken everything, the EOF too. Destroying it with a `TunnelEnded` tells the peer the reason, where there is a
 * carrier to tell it on.
 */
export class RelayStream extends Duplex implements DirectReadable {
  readonly #relay: Relay;
  readonly #options: RelayStreamOptions;
  readonly #acknowledgeBytes: number;
  #carrier: Carrier | undefined;
  readonly #vigil: LivenessMonitor | undefined;
  #stopBeating: (() => void) | undefined;
  #unanswered = 0;
  #pings = 0;
  /** The peer's last ping, while it has no answer. */
  #pinged: number | undefined;
  /** Nothing was acknowledged on this carrier yet, and the one before was lost. */
  #isCautious = false;
  #acknowledging: NodeJS.Timeout | undefined;
  #writing: Callback | undefined;
  #finishing: Callback | undefined;
  /** What has arrived and not been handed to the reader, and whether the reader wants it. */
  readonly #inbox = new ReceiveBuffer();
  #isWanted = false;
  /** Who is pushed to says nothing of its memory: it is left to the collector. */
  #sink: Sink = (bytes) => this.push(bytes);
  #isHandedOver = false;
  /** Relay v4: the carrier is not read. */
  #isPaused = false;
  #isEndPushed = false;
  /** What the budget was told that is kept. */
  #countedBytes = 0;
  /** Relay v4: the peer has closed, and nobody will read what is still written. */
  #left = false;
  /** What is said at the end; undefined before it. */
  #farewell: CloseReason | undefined;
  #lingering: NodeJS.Timeout | undefined;

  constructor(options: RelayStreamOptions) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: portionBytes,
      writableHighWaterMark: maxWaitingBytes,
    });
    const { isV4: isPlain, windowBytes, onUnresponsive: onSilence } = options;
    this.#options = options;
    if (onSilence !== undefined) {
      const onVoice = (): void => options.onRecovered?.();
      this.#vigil = new LivenessMonitor({ ping: () => this.#ping(), onUnresponsive: onSilence, onRecovered: onVoice });
    }
    this.#relay = new Relay({
      windowBytes: isPlain ? Infinity : windowBytes,
      peerWindowBytes: isPlain ? Infinity : windowBytes,
    });
    this.#acknowledgeBytes = isPlain ? 32 * 1024 : Math.floor(windowBytes / 8);
    // Nothing is asked for any more once the end has been pushed.
    this.once('end', () => this.#sendAck());
  }

  get isAttached(): boolean {
    return this.#carrier !== undefined;
  }

  /** Whether another carrier may take the tunnel on. */
  get canResume(): boolean {
    return !this.destroyed && !this.#left;
  }

  /** What has been taken of the peer's bytes; a new carrier starts from here. */
  get received(): number {
    // A peer of relay v4 is held back by its connection, and some of them never send anything twice.
    if (this.#options.isV4) this.#relay.recordAckSent(this.#relay.received);
    else this.#sendAck();
    return this.#relay.ackSent;
  }

  /** How far the peer has taken ours, as far as we know. */
  get acknowledged(): number {
    return this.#relay.acknowledged;
  }

  /** Whether the peer can have taken everything before `position`. */
  isValidAck(position: number): boolean {
    return this.#relay.isValidAck(position);
  }

  /** Whether the peer has said all it had to say, and it has arrived. */
  get hasEnded(): boolean {
    return this.#relay.hasEnded;
  }

  /** What has arrived and was not read. */
  get unreadBytes(): number {
    return this.#inbox.length + this.readableLength;
  }

  get unackedBytes(): number {
    return this.#relay.unackedBytes;
  }

  /**
   * Goes on on `carrier`, in the place of the one before, if any. The peer has taken everything before `peerReceived`,
   * and starts to send from `from`. Takes the carrier over. Returns how many bytes are sent once more. Throws
   * `RelayViolation`, and takes nothing then.
   */
  attach(carrier: Carrier, positions: { readonly peerReceived: number; readonly from: number }): number {
    const again = this.#relay.attach(positions);
    this.#carrier?.drop();
    this.#carrier = carrier;
    this.#isCautious = again > 0;
    this.#unanswered = 0;
    this.#vigil?.reset();
    this.#pinged = undefined;
    this.#isPaused = false;
    this.#stopBeating ??= everyInterval(this.#options.keepAliveMs ?? keepAliveMs, () => this.#beat());
    carrier.listen({
      frame: (frame) => this.#receive(frame),
      drained: () => {
        this.#answer();
        this.#flush();
      },
      ended: (end) => this.#carrierEnded(end),
    });
    // What was taken since the peer was asked to go on from there it cannot know yet.
    if (this.#relay.ackSent > positions.from) this.#carrier?.send({ kind: 'ack', at: this.#relay.ackSent });
    this.#flush();
    // The acknowledgement of our EOF may have been lost with the old carrier, and come with this one.
    this.#finishIfDelivered();
    return again;
  }

  /** Takes over a carrier that has come too late, and tells it how the tunnel has ended, if it has. */
  rejectLate(carrier: Carrier): void {
    if (this.#farewell === undefined) return carrier.drop();
    // Of a tunnel that has ended in order, this may be all that the peer still waits for.
    carrier.send({ kind: 'ack', at: this.#relay.ackSent });
    carrier.close(...this.#farewell);
  }

  /** Asks the peer to come back on another carrier, where it knows how. */
  requestReconnect(): void {
    this.#carrier?.send({ kind: 'move' });
  }

  /** Asks the peer for a sign of life now; `onUnresponsive` is told when none comes. */
  probe(): void {
    if (this.#carrier) this.#vigil?.ping();
  }

  /** Gives the carrier up; the tunnel waits for another one. */
  dropCarrier(): void {
    if (this.#carrier) this.#lose(this.#carrier, { how: 'reset' });
  }

  readDirect(take: Sink): void {
    this.#isHandedOver = true;
    this.#sink = take;
    this.resume();
  }

  /** Where bytes are handed over, nothing is pushed that would make Node.js ask for more. */
  override resume(): this {
    if (this.#isHandedOver && !this.destroyed) this._read();
    return super.resume();
  }

  override _read(): void {
    this.#isWanted = true;
    this.#deliver();
    if (this.#isPaused && this.unreadBytes <= this.#options.windowBytes) this.#resume();
    this.#maybeAck();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    if (this.#left) return callback();
    this.#relay.write(chunk);
    this.#writing = callback;
    this.#flush();
  }

  override _final(callback: Callback): void {
    if (this.#left) return callback();
    this.#relay.end();
    this.#finishing = callback;
    this.#flush();
    this.#finishIfDelivered();
  }

  override _destroy(error: Error | null, callback: Callback): void {
    this.#stopBeating?.();
    clearTimeout(this.#lingering);
    const isOrderly = error === null && this.#relay.hasEnded && this.writableFinished;
    this.#sendAck();
    // Nobody owes an answer to that.
    this.#vigil?.reset();
    this.#farewell = this.#farewellFor(error, isOrderly);
    this.#carrier?.close(...this.#farewell);
    this.#carrier = undefined;
    this.#relay.close();
    this.#inbox.clear();
    this.#settle(error ?? connectionReset());
    this.#account();
    callback(error);
  }

  #farewellFor(error: Error | null, isOrderly: boolean): CloseReason {
    if (error instanceof TunnelEnded) return [endReasons[error.reason].closeCode, error.reason];
    if (isOrderly) return [1000, ''];
    return this.#options.isV4 ? [relayCloseCodes.TARGET_LOST, ''] : [abortedCloseCode, 'ABORTED'];
  }

  #receive(frame: RelayFrame): void {
    // Whoever sends is alive; its answer to a ping may be far behind.
    this.#unanswered = 0;
    this.#vigil?.heard();
    switch (frame.kind) {
      case 'data':
        return this.#receiveData(frame.bytes, frame.release);
      case 'end':
        if (this.#relay.receiveEof(frame.at)) this.#deliver();
        return this.#sendAck();
      case 'ack':
        return this.#receiveAcknowledgement(frame.at);
      case 'ping':
        this.#pinged = frame.id;
        return this.#answer();
      case 'pong':
        return;
      case 'move':
        return this.#options.onReconnectRequested?.();
      default:
        throw new RelayViolation(relayCloseCodes.INVALID_TAG, 'a greeting in the middle');
    }
  }

  #answer(): void {
    if (this.#pinged === undefined || this.#carrier === undefined) return;
    if (this.#carrier.waitingBytes > maxPongBytes) return;
    this.#carrier.send({ kind: 'pong', id: this.#pinged });
    this.#pinged = undefined;
  }

  #receiveData(bytes: Buffer, release?: Release): void {
    const fresh = this.#relay.receive(bytes);
    if (fresh.length > 0) this.#store(fresh, release);
    // A peer that knows no window is held back by the connection itself.
    if (this.#options.isV4 && this.unreadBytes > this.#options.windowBytes) this.#pause();
    this.#maybeAck();
  }

  /** A reader that has caught up gets the bytes as they are; for others they are put together. */
  #store(bytes: Buffer, release?: Release): void {
    if (this.#isWanted && this.readableLength === 0 && this.#inbox.length === 0) {
      this.#isWanted = this.#sink(bytes, release ?? ignore);
      return;
    }
    this.#inbox.append(bytes, release);
    this.#deliver();
  }

  #deliver(): void {
    while (this.#isWanted && this.#inbox.length > 0) {
      const { bytes, release } = this.#inbox.receive(portionBytes);
      this.#isWanted = this.#sink(bytes, release);
    }
    if ((this.#relay.hasEnded || this.#left) && this.#inbox.length === 0) this.#pushEnd();
  }

  #pushEnd(): void {
    if (!this.#isEndPushed) this.push(null);
    this.#isEndPushed = true;
  }

  #receiveAcknowledgement(at: number): void {
    this.#relay.onAck(at);
    this.#isCautious = false;
    this.#flush();
    this.#finishIfDelivered();
  }

  /** Tells the budget what is kept now, and lets a writer go on that has waited for room. */
  #account(): void {
    const change = this.#relay.unackedBytes - this.#countedBytes;
    this.#countedBytes += change;
    if (change !== 0) this.#options.budget?.add(change);
    if (this.#writing === undefined || !this.#mayKeepMore()) return;
    const callback = this.#writing;
    this.#writing = undefined;
    callback();
  }

  #mayKeepMore(): boolean {
    const { windowBytes, budget } = this.#options;
    const room = this.#isPaused ? Math.max(windowBytes, mostStuckBytes) : windowBytes;
    return this.#relay.unackedBytes < (budget?.isOver ? leastKeptBytes : room);
  }

  /** Acknowledgements wait behind the data now, so there has to be room without them. */
  #pause(): void {
    this.#isPaused = true;
    this.#carrier?.pause();
    this.#account();
  }

  #resume(): void {
    this.#isPaused = false;
    this.#carrier?.resume();
  }

  #finishIfDelivered(): void {
    if (this.#finishing === undefined || !this.#relay.isDelivered) return;
    const callback = this.#finishing;
    this.#finishing = undefined;
    callback();
  }

  #flush(): void {
    this.#sendAll();
    this.#account();
  }

  #sendAll(): void {
    const carrier = this.#carrier;
    if (carrier === undefined) return;
    const { maxDataBytes } = carrier.codec;
    while (carrier.waitingBytes < maxWaitingBytes) {
      const outgoing = this.#relay.next(this.#isCautious ? cautiousBytes : maxDataBytes);
      if (outgoing === undefined) return;
      // Relay v4 has no other word for an EOF; the peer's Close frame then says that everything has arrived.
      if (outgoing.kind === 'end' && this.#options.isV4) return this.#carrier?.end(1000);
      carrier.send(outgoing);
      this.#vigil?.sent();
    }
  }

  /** What the reader has not taken yet counts as not taken, so that a window is also what a slow reader can cost. */
  #tell(): void {
    this.#relay.recordAckSent(this.#relay.received - this.unreadBytes);
  }

  #maybeAck(): void {
    const due = this.#relay.received - this.unreadBytes - this.#relay.ackSent;
    if (due >= this.#acknowledgeBytes) this.#sendAck();
    // What the reader is about to take is counted when the time has come.
    else if (this.#relay.received > this.#relay.ackSent && this.#carrier)
      this.#acknowledging ??= this.#scheduleAck();
  }

  #scheduleAck(): NodeJS.Timeout {
    const timer = setTimeout(() => this.#sendAck(), acknowledgeMs);
    timer.unref();
    return timer;
  }

  #sendAck(): void {
    clearTimeout(this.#acknowledging);
    this.#acknowledging = undefined;
    const before = this.#relay.ackSent;
    this.#tell();
    if (this.#relay.ackSent === before || this.#carrier === undefined) return;
    this.#carrier.send({ kind: 'ack', at: this.#relay.ackSent });
    // Who has sent something may send more: a transfer that stops is looked after too.
    this.#vigil?.sent();
  }

  #beat(): void {
    const carrier = this.#carrier;
    if (carrier === undefined) return;
    // A peer of relay v4 answers nothing.
    if (!this.#options.isV4 && this.#unanswered >= mostUnanswered)
      return this.#lose(carrier, { how: 'silent' });
    this.#relay.trim();
    this.#ping();
  }

  #ping(): void {
    this.#unanswered++;
    this.#carrier?.send({ kind: 'ping', id: this.#pings++ });
    this.#vigil?.sent();
  }

  #lose(carrier: Carrier, end: CarrierEnd): void {
    carrier.drop();
    this.#carrierEnded(end);
  }

  #carrierEnded(end: CarrierEnd): void {
    this.#carrier = undefined;
    this.#vigil?.reset();
    if (this.destroyed) return;
    if (end.how === 'violation') return void this.destroy(end.error);
    if (end.how === 'closed' && this.#options.isV4) return this.#peerLeft();
    if (end.how === 'closed') {
      const reason = reasonOfCloseCode(end.code);
      if (reason) return void this.destroy(tunnelEnded(reason));
      if (isFinal(end.code)) return void this.destroy(connectionReset());
    }
    this.#relay.detach();
    this.#options.onDetached?.(end);
  }

  /** A Close frame of relay v4 ends both ways, whichever side says it first. */
  #peerLeft(): void {
    this.#left = true;
    this.#stopBeating?.();
    this.#settle();
    if (this.readableEnded) return this.#linger();
    this.once('end', () => this.#linger());
    this.#deliver();
  }

  /** Its reader may close in its own time, but not keep the tunnel for ever. */
  #linger(): void {
    this.#lingering = setTimeout(() => this.destroy(connectionReset()), leftLingerMs);
    this.#lingering.unref();
  }

  #settle(error?: Error): void {
    const waiting = [this.#writing, this.#finishing];
    this.#writing = undefined;
    this.#finishing = undefined;
    for (const callback of waiting) callback?.(error);
  }
}

/** Close codes after which a tunnel of `postern.relay.v1` is over; all others may come from something on the way. */
function isFinal(code: number): boolean {
  return code === abortedCloseCode || (Object.values(relayCloseCodes) as readonly number[]).includes(code);
}
