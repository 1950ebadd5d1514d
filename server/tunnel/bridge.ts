import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isEndReason } from '../../protocol/end-reason.ts';
import { abort } from '../../stream/close.ts';
import { tunnelEnded } from '../../stream/tunnel-ended.ts';

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
export async function bridge(client: Duplex, target: Socket, signal: AbortSignal): Promise<BridgeEnd> {
  let end: BridgeEnd = 'CLOSED';
  const broke = (how: BridgeEnd): void => {
    if (end !== 'CLOSED') return;
    end = how;
    abort(target);
    if (client instanceof Socket) abort(client);
    else
      client.destroy(
        how === 'ENDED' && isEndReason(signal.reason) ? tunnelEnded(signal.reason) : new Error(how),
      );
  };
  // These come before the listeners of the pipelines, which would close the other side in an orderly way.
  client.on('error', () => broke('CLIENT_LOST'));
  target.on('error', () => broke('TARGET_LOST'));
  const stop = (): void => broke('ENDED');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  try {
    const ways = await Promise.allSettled([pipeline(client, target), pipeline(target, client)]);
    if (ways.some(({ status }) => status === 'rejected'))
      broke(client.destroyed ? 'CLIENT_LOST' : 'TARGET_LOST');
    return end;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
