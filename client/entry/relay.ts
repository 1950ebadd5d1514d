import { resumableEntry } from './resumable.ts';

/** The resumable tunnel by WebSocket (docs/entry/relay.md). */
export const relay = resumableEntry('relay');
