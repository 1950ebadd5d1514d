import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { onAbort } from '../base/deadline.ts';
import { isEndReason } from '../protocol/end-reason.ts';
import type { EndReason } from '../protocol/end-reason.ts';
import { abort } from './close.ts';
import { noticeLostPeers } from './lost-peers.ts';
import { readDirect } from './zero-copy/direct-reads.ts';
import { tunnelEnded } from './tunnel-ended.ts';

/**
 * How a tunnel ended. `CLOSED`: both directions, in order. `CLIENT_LOST`, `TARGET_LOST`: that side aborted.
 * `ENDED`: the signal was aborted; the client is told the reason where its protocol can express it.
 */
export type BridgeEnd = 'CLOSED' | 'CLIENT_LOST' | 'TARGET_LOST' | 'ENDED';

/**
 * Copies bytes both ways until both directions have ended. An EOF of one side ends that direction only; a side that aborts
 * resets the other, so that an abort is never mistaken for an end; a peer that is gone after its FIN counts as one that
 * aborts. Takes over both streams: they are closed when the promise settles, and it never rejects. `explain` makes the error for
 * the reason of the signal.
 */
export async function bridge(
  client: Duplex,
  target: Duplex,
  signal: AbortSignal,
  explain: (reason: EndReason) => Error = tunnelEnded,
): Promise<BridgeEnd> {
  let end: BridgeEnd = 'CLOSED';
  const fail = (how: BridgeEnd): void => {
    if (end !== 'CLOSED') return;
    end = how;
    const cause = how === 'ENDED' && isEndReason(signal.reason) ? explain(signal.reason) : new Error(how);
    destroy(target, cause);
    destroy(client, cause);
  };
  const removeListener = onAbort(signal, () => fail('ENDED'));
  const stopWatching = noticeLostPeers(client, target);
  try {
    const bothClosed = [closed(client, () => fail('CLIENT_LOST')), closed(target, () => fail('TARGET_LOST'))];
    copy(client, target);
    copy(target, client);
    await Promise.all(bothClosed);
    return end;
  } finally {
    stopWatching();
    removeListener();
  }
}

function destroy(stream: Duplex, cause: Error): void {
  if (stream instanceof Socket) abort(stream);
  else stream.destroy(cause);
}

/**
 * One direction. Without `pipe` or `pipeline`: an idle tunnel would hold some forty closures more, and of thousands of
 * tunnels nearly all are idle most of the time.
 */
function copy(from: Duplex, to: Duplex): void {
  readDirect(from, (bytes, release) => to.write(bytes, release));
  // A FIN that came before the tunnel has had its event already.
  if (from.readableEnded) to.end();
  else from.on('end', () => to.end());
  to.on('drain', () => from.resume());
}

/** Resolves when the stream has closed; `onAborted` is called first when it had not ended both ways. */
function closed(stream: Duplex, onAborted: () => void): Promise<void> {
  stream.on('error', onAborted);
  return new Promise((resolve) => {
    const check = (): void => {
      if (!stream.readableEnded || !stream.writableFinished) onAborted();
      resolve();
    };
    if (stream.closed) check();
    else stream.once('close', check);
  });
}
