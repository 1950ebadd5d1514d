import type { Socket } from 'node:net';
import type { ConnectResponse } from '../proxy/connect-response.ts';
import { ChunkedEnd } from './chunked-end.ts';

/** Error pages can contain images; beyond this size a new connection is cheaper. */
const maxBodyBytes = 256 * 1024;
const drainMs = 3000;

/**
 * Reads the body of a refusal off the connection. Resolves to whether the connection can be used for another request:
 * not when either end announces its end, when the body has no end, is too large, slow or malformed, or is followed by data.
 */
export function drain(response: ConnectResponse, socket: Socket): Promise<boolean> {
  const end = endOfBody(response);
  if (end === undefined) return Promise.resolve(false);
  return new Promise((resolve) => {
    let size = 0;
    const finish = (isWhole: boolean): void => {
      clearTimeout(timer);
      socket.off('readable', read).off('end', stop).off('close', stop).off('error', stop);
      resolve(isWhole);
    };
    const stop = (): void => finish(false);
    const read = (): void => {
      for (
        let chunk = socket.read() as Buffer | null;
        chunk !== null;
        chunk = socket.read() as Buffer | null
      ) {
        size += chunk.length;
        const at = size > maxBodyBytes ? 'damaged' : find(end, chunk);
        if (at !== undefined) return finish(at === chunk.length && socket.readableLength === 0);
      }
    };
    const timer = setTimeout(stop, drainMs);
    if (end(Buffer.alloc(0)) === 0) return finish(socket.readableLength === 0);
    socket.on('readable', read).once('end', stop).once('close', stop).once('error', stop);
    if (socket.destroyed || socket.readableEnded) stop();
  });
}

type FindEnd = (chunk: Buffer) => number | undefined;

/** A function that finds the end of the body in its chunks, or undefined when the connection ends with this response. */
function endOfBody(response: ConnectResponse): FindEnd | undefined {
  const options = [...response.values('connection'), ...response.values('proxy-connection')];
  const words = options.flatMap((value) => value.toLowerCase().split(',')).map((word) => word.trim());
  const stays = response.minorVersion > 0 || words.includes('keep-alive');
  if (words.includes('close') || !stays) return undefined;
  const encodings = response.values('transfer-encoding');
  const lengths = new Set(response.values('content-length'));
  // Two statements about one body: where it ends is anyone's guess.
  if (encodings.length + lengths.size !== 1) return undefined;
  if (encodings.length > 0) {
    if (encodings[0]!.toLowerCase() !== 'chunked') return undefined;
    const chunked = new ChunkedEnd();
    return (chunk) => chunked.push(chunk);
  }
  const [length = ''] = lengths;
  if (!/^\d{1,9}$/.test(length)) return undefined;
  let left = Number(length);
  return (chunk) => {
    if (chunk.length >= left) return left;
    left -= chunk.length;
    return undefined;
  };
}

function find(end: FindEnd, chunk: Buffer): number | 'damaged' | undefined {
  try {
    return end(chunk);
  } catch {
    return 'damaged';
  }
}
