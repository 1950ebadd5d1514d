import { resumableEntry } from './resumable.ts';

/** The resumable tunnel by plain requests and responses (docs/entry/http.md). */
export const http = resumableEntry('http');
