import type { StoredRow } from './sqlite-rows.ts';
import type { TableName } from './store.ts';

/** A request to the thread that has the file open. */
export type ThreadRequest = { readonly id: number; readonly now: number } & ThreadCall;

export type ThreadCall =
  | { readonly kind: 'read'; readonly table: TableName; readonly key: string }
  | { readonly kind: 'list'; readonly table: TableName }
  | {
      readonly kind: 'replace';
      readonly table: TableName;
      readonly key: string;
      readonly expected: StoredRow | undefined;
      readonly next: StoredRow | undefined;
    }
  | { readonly kind: 'probe' | 'sweep' | 'openSeen' | 'close' }
  | { readonly kind: 'seen'; readonly key: string; readonly expiresAt: number };

/** What the thread sends: the answer to a request, or news. */
export type ThreadMessage =
  | { readonly kind: 'done'; readonly id: number; readonly result: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string }
  | { readonly kind: 'open' }
  | { readonly kind: 'notOpen'; readonly message: string }
  /** Another process has changed something under these names; absent: the file is another one. */
  | { readonly kind: 'changed'; readonly names?: readonly string[] }
  /** The files have changed under the open store; a sentence for the log. */
  | { readonly kind: 'notice'; readonly text: string }
  /** Why nothing can be written now, found without a request. */
  | { readonly kind: 'failing'; readonly reason: string };

/** What the thread is started with. */
export interface ThreadData {
  readonly file: string;
  /** The wall clock at the start; absent: the thread reads it itself. */
  readonly now?: number;
}
