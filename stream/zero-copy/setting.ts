/**
 * This folder moves bytes without memory of their own for each read, and without `ws` for the data of a WebSocket. For that
 * it uses what Node.js does not document: the symbols behind `onread` (`direct-reads.ts`), and the connection beneath a
 * `ws` WebSocket (`websocket-data.ts`). Nothing outside this folder may, and everything in it works without, by documented
 * interfaces, with the same result: where a version of Node.js lacks an internal, or where it is turned off here.
 */
let isEnabled = true;

/** Whether Node.js' internals and its `onread` are used. */
export function usesZeroCopy(): boolean {
  return isEnabled;
}

/** Turns all of it off for a value of `0` or `false`, that of `POSTERN_ZERO_COPY`. Call it before the first connection. */
export function configureZeroCopy(value: string | undefined): void {
  isEnabled = value !== '0' && value !== 'false';
}
