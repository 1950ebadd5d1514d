import { resumableEntry } from './resumable.ts';

/** The tunnel that outlives its connections (docs/entry/relay.md). */
export const relay = resumableEntry('relay');
