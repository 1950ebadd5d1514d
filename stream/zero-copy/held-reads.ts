import type { Socket } from 'node:net';

interface Reader {
  readonly _handle?: { readonly readStop?: () => number; readonly readStart?: () => number } | null;
}

/**
 * Leaves what comes on a connection with the kernel, from this moment: also what the event loop knows of and has not read yet.
 * Node.js has no public way for a connection that its HTTP parser or its TLS reads. Where it has no such function, nothing
 * happens. End it by `releaseReads`, and do so before the connection is read by anything else.
 */
export function holdReads(socket: Socket): void {
  (socket as Reader)._handle?.readStop?.();
}

/** Reads on. */
export function releaseReads(socket: Socket): void {
  (socket as Reader)._handle?.readStart?.();
}
