import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { parseRecord } from './audit-chain.ts';
import type { AuditFields, ChainedRecord } from './audit-chain.ts';

/** Where to stop looking for tunnels that have not ended. */
export interface LostTunnelBounds {
  /** The names of the processes that live; an open tunnel of any other one is lost. */
  readonly living: ReadonlySet<string>;
  /** Tunnels that opened before this time, in milliseconds since the epoch, have ended in any case. */
  readonly since: number;
}

const chunkBytes = 1024 * 1024;
/** The end of a file, so large, has all the tunnels that can have been lost; a start does not wait for more. */
const maxBytes = 256 * chunkBytes;
const events = /"event":"(?:open|end|refuse|start)"/;

/**
 * The `end` records of tunnels whose process has ended without a word, read from the end of the audit back to the start of
 * the last process that was alone. Rejects with what `open` rejects with.
 */
export async function endsOfLostTunnels(
  path: string,
  bounds: LostTunnelBounds,
): Promise<readonly AuditFields[]> {
  const file = await open(path, 'r');
  try {
    const ended = new Set<unknown>();
    const lost: AuditFields[] = [];
    for await (const line of linesBackwards(file)) {
      const record = events.test(line) ? parseRecord(line) : undefined;
      if (record === undefined) continue;
      if (isBoundary(record, bounds)) break;
      const { event, session, instance } = record;
      if (event === 'open' && !ended.has(session) && isLost(instance, bounds))
        lost.unshift(endOfLost(record));
      if (session !== undefined) ended.add(session);
    }
    return lost;
  } finally {
    await file.close();
  }
}

/** The end of a tunnel by its `open` record: nothing is known of its bytes. */
export function endOfLost(record: AuditFields): AuditFields {
  const { session, entry, client, asked, issuer, subject, tokenId, target, rule, address } = record;
  const { instance, time } = record;
  return {
    time: new Date().toISOString(),
    event: 'end',
    session,
    entry,
    client,
    asked,
    issuer,
    subject,
    tokenId,
    target,
    rule,
    address,
    cause: 'GATEWAY_LOST',
    reason: `the process ${typeof instance === 'string' ? instance : 'of this tunnel'} ended without a word`,
    opened: time,
  };
}

/** Processes of earlier versions do not say which one they are: their tunnels are lost when no other process lives. */
function isLost(instance: unknown, { living }: LostTunnelBounds): boolean {
  return typeof instance === 'string' ? !living.has(instance) : living.size === 0;
}

/** Before the start of a process that was alone, all had been looked after. */
function isBoundary({ event, others, time }: ChainedRecord, { since }: LostTunnelBounds): boolean {
  if (event === 'start') return Array.isArray(others) && others.length === 0;
  return typeof time === 'string' && Date.parse(time) < since;
}

async function* linesBackwards(file: FileHandle): AsyncGenerator<string> {
  let { size: end } = await file.stat();
  const last = Math.max(0, end - maxBytes);
  let rest = '';
  while (end > last) {
    const start = Math.max(last, end - chunkBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    const lines = (buffer.toString('latin1', 0, bytesRead) + rest).split('\n');
    rest = lines.shift()!;
    for (const line of lines.toReversed()) yield line;
    end = start;
  }
  if (last === 0) yield rest;
}
