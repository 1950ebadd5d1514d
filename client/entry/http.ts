import { resumableEntry } from './resumable.ts';

/** The tunnel that outlives its connections, by requests and answers alone (docs/entry/http.md). */
export const http = resumableEntry('http');
