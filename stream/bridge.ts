import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { isEndReason } from '../protocol/end-reason.ts';
import { abort } from './close.ts';
import { readDirect } from './zero-copy/direct-reads.ts';
import { tunnelEnded } from './tunnel-ended.ts';

/**
 * How a tunnel ended. `CLOSED`: both ways, in order. `CLIENT_LOST`, `TARGET_LOST`: that side broke off.
 * `ENDED`: the signal was aborted; the client is told the reason where its protocol has room for it.
 */
export type BridgeEnd = 'CLOSED' | 'CLIENT_LOST' | 'TARGET_LOST' | 'ENDED';

/**
 * Copies bytes both ways until both ways have ended. An EOF of one side ends that way only; a side that breaks off
 * resets the other, so that an abort is never mistaken for an end. Both streams are gone when the promise settles,
 * and it never rejects.
 */
export async function bridge(client: Duplex, target: Duplex, signal: AbortSignal): Promise<BridgeEnd> {
  let end: BridgeEnd = 'CLOSED';
  const broke = (how: BridgeEnd): void => {
    if (end !== 'CLOSED') return;
    end = how;
    const why = how === 'ENDED' && isEndReason(signal.reason) ? tunnelEnded(signal.reason) : new Error(how);
    breakOff(target, why);
    breakOff(client, why);
  };
  const stop = (): void => broke('ENDED');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    const gone = [closed(client, () => broke('CLIENT_LOST')), closed(target, () => broke('TARGET_LOST'))];
    copy(client, target);
    copy(target, client);
    await Promise.all(gone);
    return end;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

function breakOff(stream: Duplex, why: Error): void {
  if (stream instanceof Socket) abort(stream);
  else stream.destroy(why);
}

/**
 * One way. Not by `pipe` or `pipeline`: an idle tunnel would hold some forty closures more, and every one of thousands
 * is idle most of the time.
 */
function copy(from: Duplex, to: Duplex): void {
  readDirect(from, (bytes, release) => to.write(bytes, release));
  // A FIN that came before the tunnel has had its event already.
  if (from.readableEnded) to.end();
  else from.on('end', () => to.end());
  to.on('drain', () => from.resume());
}

/** Resolves when the stream is gone; `broke` is called first when it had not ended both ways. */
function closed(stream: Duplex, broke: () => void): Promise<void> {
  stream.on('error', broke);
  return new Promise((resolve) => {
    const check = (): void => {
      if (!stream.readableEnded || !stream.writableFinished) broke();
      resolve();
    };
    if (stream.closed) check();
    else stream.once('close', check);
  });
}
