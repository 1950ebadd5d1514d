import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { parseArgs } from '../../base/parse-args.ts';
import { parseRecord } from '../audit/audit-chain.ts';
import type { ChainEnd } from '../audit/audit-chain.ts';
import { headFileOf, readHead } from '../audit/audit-head.ts';
import { ChainVerifier } from '../audit/verify-chain.ts';
import type { ChainPoint, FileSummary } from '../audit/verify-chain.ts';
import { UsageError, exits, runCommand } from './command.ts';
import type { CommandIo } from './command.ts';

const usage = 'postern-gateway verify-audit [--from NUMBER:HASH] [--json] FILE...';

/**
 * `postern-gateway verify-audit FILE...`: exits 0 when the chain of the files is intact, else 1. The files of one audit,
 * in any order: their numbers give it.
 */
export function verifyAudit(args: string[], io: CommandIo): Promise<number> {
  return runCommand(io, usage, async () => {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { from: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    if (positionals.length === 0) throw new UsageError('verify-audit takes the files of an audit');
    const from = values.from === undefined ? undefined : await chainEnd(values.from);
    const files = await inOrder(positionals);
    // Before the file: the gateway may go on writing meanwhile.
    const noted = readHead(headFileOf(files.at(-1)!));
    const chain = new ChainVerifier(from, noted);
    for (const file of files) await chain.add(file, contentOf(file));
    chain.end();
    io.stdout.write(values.json ? asJson(chain) : asText(chain));
    return chain.isIntact ? exits.ok : exits.failure;
  });
}

/** `NUMBER:HASH`, or the file in which that was noted; 0 is the beginning of an audit. */
async function chainEnd(text: string): Promise<ChainEnd> {
  const pattern = /^(\d{1,15})(?::([\w-]{43})?)?\s/;
  const literal = pattern.exec(`${text}\n`);
  const [, seq, hash = ''] =
    literal ?? pattern.exec(`${await readFile(text, 'latin1').catch(unreadable(text))}\n`) ?? [];
  if (seq === undefined || (hash === '' && Number(seq) > 0))
    throw new UsageError('--from takes NUMBER:HASH, as verify-audit prints it, or a file with that');
  return { seq: Number(seq), hash };
}

/** Rotated files have older records than the one that is written now, whatever their names. */
async function inOrder(files: readonly string[]): Promise<readonly string[]> {
  const numbered = await Promise.all(files.map(async (file) => ({ file, first: await firstNumber(file) })));
  return numbered.toSorted((a, b) => a.first - b.first).map(({ file }) => file);
}

async function firstNumber(file: string): Promise<number> {
  await (await open(file, 'r').catch(unreadable(file))).close();
  let start = '';
  for await (const chunk of contentOf(file)) {
    start += chunk.toString('latin1');
    for (const line of start.split('\n').slice(0, -1)) {
      const record = parseRecord(line);
      if (record) return record.seq;
    }
    if (start.length > 1024 * 1024) break;
  }
  return Infinity;
}

function unreadable(file: string): (cause: unknown) => never {
  return (cause) => {
    throw new UsageError(`${file} cannot be read`, { cause });
  };
}

function contentOf(file: string): AsyncIterable<Buffer> {
  const content = createReadStream(file, { highWaterMark: 1024 * 1024 });
  if (!file.endsWith('.gz')) return content;
  const unzipped = createGunzip();
  content.on('error', (error) => unzipped.destroy(error)).pipe(unzipped);
  return unzipped;
}

function asText({ findings, summaries, isIntact }: ChainVerifier): string {
  const lines = findings.map(({ file, why }) => `${file}: ${why}`);
  lines.push(...summaries.map((summary) => describeFile(summary, isIntact)));
  const last = summaries.findLast((each) => each.last)?.last;
  if (isIntact && last) lines.push(`to note for --from: ${last.seq}:${last.hash}`);
  return `${lines.join('\n')}\n`;
}

function describeFile({ file, records, first, last }: FileSummary, isIntact: boolean): string {
  if (!first || !last) return `${file}: empty, there is no record in it`;
  const count = records === 1 ? '1 record' : `${records} records`;
  return `${file}: ${count}${isIntact ? ' intact' : ''} (no. ${first.seq} to ${last.seq}, ${period(first, last)}), first hash ${first.hash}, last hash ${last.hash}`;
}

function period(first: ChainPoint, last: ChainPoint): string {
  return `${first.time ?? 'no time'} to ${last.time ?? 'no time'}`;
}

function asJson({ findings, summaries, isIntact }: ChainVerifier): string {
  return `${JSON.stringify({ intact: isIntact, files: summaries, findings }, undefined, 2)}\n`;
}
