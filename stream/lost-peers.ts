import { Buffer } from 'node:buffer';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connectionReset } from './close.ts';
import { isDisconnected } from './zero-copy/connection-state.ts';

/** How often the connections are looked at. Eight thousand tunnels take about a millisecond. */
const checkMs = 2000;

/** A half-closed connection sends TCP keep-alive probes after this much silence; they are all that still shows a loss. */
const halfClosedKeepAliveMs = 10_000;

/** A client that is gone is waited for this long while its target reads nothing of what it has sent. */
const stalledMs = 15 * 60_000;

/** One connection of a tunnel that can be lost without an event. */
interface Side {
  readonly socket: Socket;
  /** What is read from `socket` is written there. */
  readonly other: Duplex;
  /** How long bytes that `other` does not take keep this side, in milliseconds. */
  readonly stalledMs: number;
  isHalfClosed: boolean;
  waitingBytes: number;
  waitingSince: number;
}

const watched = new Set<Side>();
let timer: NodeJS.Timeout | undefined;

/**
 * Notices that a peer of a tunnel is gone after its FIN. Node.js stops polling a connection whose FIN it has read, and one
 * that it does not read from for back-pressure: neither a reset nor an unanswered keep-alive makes an event there. So an
 * empty write is made now and then: it puts nothing on the wire, and fails with the error that the kernel keeps for the
 * connection (EPIPE, ECONNRESET, ETIMEDOUT), which then arrives as an `error` event. Below TLS the kernel is asked instead.
 * A peer that has only ended its direction answers keep-alives and stays, silent or not, for as long as it likes.
 *
 * What a side has sent before it left is delivered first: a lost target is noticed when `client` has received everything,
 * and a lost client when `target` has, or when that has taken nothing for a quarter of an hour.
 * Streams that are not sockets are left alone. Does not keep the process alive. Returns the function that stops it.
 */
export function noticeLostPeers(client: Duplex, target: Duplex): () => void {
  const sides = [sideOf(client, target, stalledMs), sideOf(target, client, Infinity)].filter(
    (side) => side !== undefined,
  );
  for (const side of sides) watched.add(side);
  if (watched.size > 0) timer ??= startTimer();
  return () => {
    for (const side of sides) watched.delete(side);
    if (watched.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

function sideOf(stream: Duplex, other: Duplex, maxStalledMs: number): Side | undefined {
  if (!(stream instanceof Socket)) return undefined;
  return {
    socket: stream,
    other,
    stalledMs: maxStalledMs,
    isHalfClosed: false,
    waitingBytes: 0,
    waitingSince: 0,
  };
}

function startTimer(): NodeJS.Timeout {
  const interval = setInterval(() => {
    const now = performance.now();
    for (const side of watched) check(side, now);
  }, checkMs);
  interval.unref();
  return interval;
}

function check(side: Side, now: number): void {
  const { socket, other } = side;
  // Where something waits to be written the connection is polled; where we have ended too it closes by itself.
  if (socket.destroyed || socket.writableEnded || socket.writableLength > 0) return;
  if (socket.readableEnded) {
    if (!side.isHalfClosed) socket.setKeepAlive(true, halfClosedKeepAliveMs);
    side.isHalfClosed = true;
    if (!other.writableFinished && !isStalled(side, now)) return;
  } else if (!isStalled(side, now)) return;
  if (!('encrypted' in socket)) socket.write(nothing);
  else if (isDisconnected(socket)) socket.destroy(connectionReset());
}

const nothing = Buffer.alloc(0);

/** Whether `other` has taken none of the bytes that wait for it, for too long. */
function isStalled(side: Side, now: number): boolean {
  const { writableLength } = side.other;
  if (writableLength === side.waitingBytes && writableLength > 0)
    return now - side.waitingSince >= side.stalledMs;
  side.waitingBytes = writableLength;
  side.waitingSince = now;
  return false;
}
