import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { ChunkedEnd } from './chunked-end.ts';

/** Error pages can contain images; beyond this size a new connection is cheaper. */
const maxBodyBytes = 256 * 1024;
const drainMs = 3000;

/**
 * Reads the body of a refusal off the connection. Resolves to whether the connection can be used for another request:
 * not when either end announces its end, when the body has no end, is too large, slow or malformed, or is followed by data.
 */
export function drain(response: IncomingMessage, socket: Socket): Promise<boolean> {
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
function endOfBody({ headers, httpVersion }: IncomingMessage): FindEnd | undefined {
  const connectionOptions =
    `${headers.connection ?? ''},${String(headers['proxy-connection'] ?? '')}`.toLowerCase();
  const words = connectionOptions.split(',').map((word) => word.trim());
  const stays = httpVersion === '1.1' || words.includes('keep-alive');
  if (words.includes('close') || !stays) return undefined;
  if (headers['transfer-encoding'] !== undefined) {
    if (headers['transfer-encoding'].trim().toLowerCase() !== 'chunked') return undefined;
    const chunked = new ChunkedEnd();
    return (chunk) => chunked.push(chunk);
  }
  if (!/^\d{1,9}$/.test(headers['content-length'] ?? '')) return undefined;
  let left = Number(headers['content-length']);
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
