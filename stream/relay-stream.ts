import type { Buffer } from 'node:buffer';
import { Duplex } from 'node:stream';
import type { Release } from '../base/buffer-pool.ts';
import { RelayViolation, relayCloseCodes } from '../protocol/relay-frame.ts';
import type { RelayFrame } from '../protocol/relay-frame.ts';
import { Relay } from '../protocol/relay.ts';
import type { Carrier, CarrierEnd } from './carrier.ts';
import { connectionReset, destroyAfterEnd } from './close.ts';
import { KeepAlive, keepAliveMs } from './keep-alive.ts';
import { AckScheduler } from './relay/ack-scheduler.ts';
import { ReadSide, portionBytes } from './relay/read-side.ts';
import { closeReasonFor, outcomeOf, relayPeer } from './relay/relay-peer.ts';
import type { CloseReason, RelayPeer, RelayPeerOptions } from './relay/relay-peer.ts';
import { Sender, maxWaitingBytes } from './relay/sender.ts';
import { WriteSide } from './relay/write-side.ts';
import type { ReplayBudget } from './relay/write-side.ts';
import type { DirectReadable } from './zero-copy/direct-reads.ts';
import type { Sink } from './zero-copy/pooled-reads.ts';

/** After a peer of relay v4 has closed, the reader of its last bytes has this long to close too. */
const closedLingerMs = 30_000;

export interface RelayStreamOptions extends RelayPeerOptions {
  readonly keepAliveMs?: number;
  readonly budget?: ReplayBudget;
  /** Called when a carrier has been lost and the tunnel waits for another one. */
  readonly onDetached?: (end: CarrierEnd) => void;
  /** Called when the peer asks for another carrier. */
  readonly onReconnectRequested?: () => void;
  /** Called when the peer owes an answer and nothing arrives; the carrier is kept. */
  readonly onUnresponsive?: () => void;
  /** Called when something has arrived on that carrier after all. */
  readonly onRecovered?: () => void;
}

/**
 * A tunnel that outlives its connections. Carriers are attached and lost; bytes continue where they stopped. Bytes that
 * were written are kept until the peer has acknowledged them; beyond the window, writing waits. The stream finishes when
 * the peer has acknowledged everything, the EOF too; `endWritten` says that the EOF is in the window. Destroying it with a `TunnelEnded` tells the peer the reason, if there
 * is a carrier to send it on. Errors: `TunnelEnded` where the peer has given a reason, `RelayViolation` where it broke
 * the rules, `ECONNRESET` where it aborted.
 */
export class RelayStream extends Duplex implements DirectReadable {
  readonly #options: RelayStreamOptions;
  readonly #peer: RelayPeer;
  readonly #relay: Relay;
  readonly #readSide = new ReadSide(this);
  readonly #writeSide: WriteSide;
  readonly #acks: AckScheduler;
  readonly #keepAlive: KeepAlive;
  readonly #sender: Sender;
  #carrier: Carrier | undefined;
  /** `peerClosed`: relay v4; what has arrived can still be read, and what is written goes nowhere. */
  #phase: 'open' | 'peerClosed' | 'closed' = 'open';
  /** Told to carriers that come after the end. */
  #closeReason: CloseReason | undefined;

  constructor(options: RelayStreamOptions) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: portionBytes,
      writableHighWaterMark: maxWaitingBytes,
    });
    this.#options = options;
    this.#peer = relayPeer(options);
    const { windowBytes, ackThresholdBytes, answersPings, hasEof, throttle } = this.#peer;
    const relay = (this.#relay = new Relay({ windowBytes, peerWindowBytes: windowBytes }));
    const maxUnackedBytes = (): number => throttle?.maxUnackedBytes ?? windowBytes;
    this.#writeSide = new WriteSide({ relay, maxUnackedBytes, budget: options.budget });
    this.#acks = new AckScheduler({
      relay,
      thresholdBytes: ackThresholdBytes,
      reader: this.#readSide,
      isAttached: () => this.isAttached,
      send: (at) => this.#sendAck(at),
    });
    this.#keepAlive = new KeepAlive({
      intervalMs: options.keepAliveMs ?? keepAliveMs,
      answersPings,
      onBeat: () => relay.trim(),
      onDead: () => this.dropCarrier({ how: 'silent' }),
      onUnresponsive: options.onUnresponsive,
      onRecovered: options.onRecovered,
    });
    this.#sender = new Sender({ relay, keepAlive: this.#keepAlive, hasEof });
    // Nothing is read any more once the end has been pushed, so no read would acknowledge it.
    this.once('end', () => this.#acks.sendAck());
  }

  get isAttached(): boolean {
    return this.#carrier !== undefined;
  }

  /** Whether another carrier can resume the tunnel. */
  get canResume(): boolean {
    return !this.destroyed && this.#phase === 'open';
  }

  /** How far the peer's bytes have been acknowledged; a new carrier starts from here. Acknowledges what is due. */
  get received(): number {
    if (this.#peer.resends) this.#acks.sendAck();
    else this.#relay.recordAckSent(this.#relay.received);
    return this.#relay.ackSent;
  }

  /** How far the peer has acknowledged our bytes, as far as we know. */
  get acknowledged(): number {
    return this.#relay.acknowledged;
  }

  /** Whether the peer can have received everything before `position`. */
  isValidAck(position: number): boolean {
    return this.#relay.isValidAck(position);
  }

  /** Whether the peer's EOF has arrived. */
  get hasEnded(): boolean {
    return this.#relay.hasEnded;
  }

  /** Bytes that have arrived and were not read. */
  get unreadBytes(): number {
    return this.#readSide.unreadBytes;
  }

  get unackedBytes(): number {
    return this.#relay.unackedBytes;
  }

  /**
   * Continues on `carrier`, in the place of the one before, if any. The peer has received everything before
   * `peerReceived`, and sends from `from` on. Takes over the carrier. Returns how many bytes are sent again. Throws
   * `RelayViolation`, and then does not take it over.
   */
  attach(carrier: Carrier, positions: { readonly peerReceived: number; readonly from: number }): number {
    const resentBytes = this.#relay.attach(positions);
    this.#carrier?.drop();
    this.#carrier = carrier;
    if (resentBytes > 0) this.#sender.onLoss();
    else this.#sender.onAck();
    this.#peer.throttle?.reset();
    this.#keepAlive.attach(carrier);
    carrier.listen({
      frame: (frame) => this.#receiveFrame(frame),
      drained: () => {
        this.#keepAlive.sendPong();
        this.#flush();
      },
      ended: (end) => this.#carrierEnded(end),
    });
    // The peer does not know of what was acknowledged since it was asked to send from there.
    if (this.#relay.ackSent > positions.from) this.#carrier?.send({ kind: 'ack', at: this.#relay.ackSent });
    this.#flush();
    // The acknowledgement of our EOF may have been lost with the old carrier, and come with this one.
    this.#writeSide.finishIfDelivered();
    return resentBytes;
  }

  /** Takes over a carrier that was opened too late, and tells its peer how the tunnel has ended, if it has. */
  rejectCarrier(carrier: Carrier): void {
    if (this.#closeReason === undefined) return carrier.drop();
    // After an orderly end, this may be all that the peer still waits for.
    carrier.send({ kind: 'ack', at: this.#relay.ackSent });
    carrier.close(...this.#closeReason);
  }

  /** Asks the peer to resume on another carrier, where its protocol can express that. */
  requestReconnect(): void {
    this.#carrier?.send({ kind: 'move' });
  }

  /** Pings the peer now; `onUnresponsive` is called when no answer comes. */
  probe(): void {
    this.#keepAlive.probe();
  }

  /** Drops the carrier; the tunnel waits for another one. */
  dropCarrier(end: CarrierEnd = { how: 'reset' }): void {
    if (this.#carrier === undefined) return;
    this.#carrier.drop();
    this.#carrierEnded(end);
  }

  readDirect(sink: Sink): void {
    this.#readSide.readDirect(sink);
    this.resume();
  }

  /** With a direct sink nothing is pushed that would make Node.js ask for more. */
  override resume(): this {
    if (this.#readSide.isDirect && !this.destroyed) this._read();
    return super.resume();
  }

  override _read(): void {
    this.#readSide.request();
    this.#peer.throttle?.onRead(this.unreadBytes, this.#carrier);
    this.#acks.maybeAck();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Release): void {
    if (this.#phase !== 'open') return callback();
    this.#writeSide.write(chunk, callback);
    this.#flush();
  }

  override _final(callback: Release): void {
    if (this.#phase !== 'open') return callback();
    this.#writeSide.end(callback);
    this.emit('endWritten');
    this.#flush();
    this.#writeSide.finishIfDelivered();
  }

  override _destroy(error: Error | null, callback: Release): void {
    this.#phase = 'closed';
    const isOrderly = error === null && this.#relay.hasEnded && this.writableFinished;
    this.#acks.sendAck();
    this.#keepAlive.stop();
    this.#closeReason = closeReasonFor(error, { isOrderly, peer: this.#peer });
    this.#carrier?.close(...this.#closeReason);
    this.#carrier = undefined;
    this.#relay.close();
    this.#readSide.clear();
    this.#writeSide.complete(error ?? connectionReset());
    this.#writeSide.account();
    callback(error);
  }

  #receiveFrame(frame: RelayFrame): void {
    this.#keepAlive.received();
    switch (frame.kind) {
      case 'data':
        return this.#receiveData(frame.bytes, frame.release);
      case 'end':
        if (this.#relay.receiveEof(frame.at)) this.#readSide.end();
        return this.#acks.sendAck();
      case 'ack':
        return this.#receiveAck(frame.at);
      case 'ping':
        return this.#keepAlive.onPing(frame.id);
      case 'pong':
        return;
      case 'move':
        return this.#options.onReconnectRequested?.();
      default:
        throw new RelayViolation(relayCloseCodes.INVALID_TAG, 'a greeting in the middle');
    }
  }

  #receiveData(bytes: Buffer, release?: Release): void {
    const fresh = this.#relay.receive(bytes);
    if (fresh.length > 0) this.#readSide.add(fresh, release);
    // While paused, acknowledgements wait behind the data, and more can be written without them.
    if (this.#peer.throttle?.onReceived(this.unreadBytes, this.#carrier)) this.#writeSide.account();
    this.#acks.maybeAck();
  }

  #receiveAck(at: number): void {
    this.#relay.onAck(at);
    this.#sender.onAck();
    this.#flush();
    this.#writeSide.finishIfDelivered();
  }

  #sendAck(at: number): void {
    if (this.#carrier === undefined) return;
    this.#carrier.send({ kind: 'ack', at });
    // A peer that has sent something is expected to send more: a transfer that stalls is noticed too.
    this.#keepAlive.sent();
  }

  #flush(): void {
    if (this.#carrier) this.#sender.sendPending(this.#carrier);
    this.#writeSide.account();
  }

  #carrierEnded(end: CarrierEnd): void {
    this.#carrier = undefined;
    this.#keepAlive.detach();
    if (this.destroyed) return;
    const outcome = outcomeOf(end, this.#peer);
    if (outcome instanceof Error) return void this.destroy(outcome);
    if (outcome === 'peerClosed') return this.#peerClosed();
    this.#relay.detach();
    this.#options.onDetached?.(end);
  }

  /** Both directions have ended; what has arrived can still be read, for a while. */
  #peerClosed(): void {
    this.#phase = 'peerClosed';
    this.#keepAlive.stop();
    this.#writeSide.complete();
    destroyAfterEnd(this, closedLingerMs);
    this.#readSide.end();
  }
}
