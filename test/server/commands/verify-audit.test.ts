import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { AuditFile } from '../../../server/audit/audit-file.ts';
import { verifyAudit } from '../../../server/commands/verify-audit.ts';

const folder = mkdtempSync(join(tmpdir(), 'postern-verify-'));
after(() => rmSync(folder, { recursive: true }));

async function verify(...args: string[]): Promise<{ code: number; text: string; errors: string }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const code = await verifyAudit(args, { stdin, stdout, stderr, env: {} });
  return { code, text: String(stdout.read() ?? ''), errors: String(stderr.read() ?? '') };
}

describe('verify-audit', () => {
  const source = join(folder, 'audit.jsonl');
  let lines: readonly string[];
  let head: string;
  let made = 0;
  before(async () => {
    const file = new AuditFile(source);
    await file.open();
    const records = Array.from({ length: 12 }, (_, at) => ({
      time: `2026-11-30T15:${String(at + 10)}:00.000Z`,
      event: at === 7 ? 'of a later version' : 'end',
      at,
    }));
    await file.append(records);
    await file.close();
    lines = readFileSync(source, 'utf8').trim().split('\n');
    head = /^to note for --from: (\S+)$/m.exec((await verify(source)).text)![1]!;
  });

  /** A copy in another place, where the gateway has noted nothing. */
  function fileOf(content: readonly string[] | Buffer, name = 'copy.jsonl'): string {
    const path = join(folder, `${made++}-${name}`);
    writeFileSync(path, Buffer.isBuffer(content) ? content : content.map((line) => `${line}\n`).join(''));
    return path;
  }

  const edited = (at: number): readonly string[] =>
    lines.with(at, lines[at]!.replace('"event":"', '"event":"x'));

  it('says how many records there are, from where to where, and the hashes to note', async () => {
    const { code, text } = await verify(source);
    assert.equal(code, 0);
    assert.match(
      text,
      /12 records intact \(no\. 1 to 12, 2026-11-30T15:10:00\.000Z to 2026-11-30T15:21:00\.000Z\), first hash [\w-]{43}, last hash ([\w-]{43})\nto note for --from: 12:\1\n$/,
    );
  });

  it('says the same in JSON', async () => {
    const { code, text } = await verify('--json', source);
    const { intact, files, findings } = JSON.parse(text) as {
      intact: boolean;
      files: { records: number; last: { seq: number; hash: string } }[];
      findings: unknown[];
    };
    assert.deepEqual([code, intact, files[0]!.records, findings], [0, true, 12, []]);
    assert.equal(`${files[0]!.last.seq}:${files[0]!.last.hash}`, head);
  });

  for (const [what, content, options, says] of [
    [
      'a changed line',
      () => edited(4),
      [],
      'line 5 was changed (its hash does not match what line 6 recorded)',
    ],
    ['a line less', () => lines.toSpliced(4, 2), [], 'records no. 5 to 6 are missing before line 5'],
    [
      'a line more',
      () => lines.toSpliced(4, 0, lines[1]!),
      [],
      'line 5 is out of place: its number is 2, after 4',
    ],
    ['what is no record', () => lines.with(4, 'x'), [], 'line 5 is not a record: it was changed or added'],
    [
      'a cut end and a note',
      () => lines.slice(0, 10),
      ['from'],
      'records no. 11 to 12 are missing at the end; no. 12 was noted',
    ],
    [
      'a changed last line and a note',
      () => edited(11),
      ['from'],
      'line 12 was changed: another hash was noted for no. 12',
    ],
    [
      'an empty file and a note',
      () => [],
      ['from'],
      'records no. 1 to 12 are missing at the end; no. 12 was noted',
    ],
    [
      'a cut beginning and the note 0',
      () => lines.slice(2),
      ['zero'],
      'records no. 1 to 2 are missing at the beginning; no. 0 was noted',
    ],
  ] as const) {
    it(`finds ${what}`, async () => {
      const from = { from: ['--from', head], zero: ['--from', '0'] };
      const path = fileOf(content());
      const { code, text } = await verify(...options.flatMap((option) => from[option]), path);
      assert.equal(code, 1);
      assert.equal(text.split('\n')[0], `${path}: ${says}`);
    });
  }

  it('compares with what the gateway has noted beside the file', async () => {
    const whole = readFileSync(source);
    for (const [content, says] of [
      [lines.slice(0, 10), /records no\. 11 to 12 are missing at the end/],
      [edited(11), /line 12 was changed/],
    ] as const) {
      writeFileSync(source, content.map((line) => `${line}\n`).join(''));
      const { code, text } = await verify(source);
      assert.equal(code, 1);
      assert.match(text, says);
    }
    writeFileSync(source, whole);
    assert.equal((await verify(source)).code, 0);
  });

  it('goes over several files, packed ones too, in the order of their numbers', async () => {
    const parts = [
      fileOf(lines.slice(8)),
      fileOf(lines.slice(4, 8)),
      fileOf(gzipSync(`${lines.slice(0, 4).join('\n')}\n`), 'a.gz'),
    ];
    const { code, text } = await verify('--from', '0', ...parts, fileOf([]));
    assert.equal(code, 0, text);
    assert.match(text, /no\. 1 to 4[^]*no\. 5 to 8[^]*no\. 9 to 12[^]*: empty, there is no record in it\n/);
    const broken = await verify(parts[0]!, parts[2]!);
    assert.match(broken.text, /records no\. 5 to 8 are missing before line 1/);
    assert.equal(broken.code, 1);
  });

  it('takes a note from a file', async () => {
    assert.equal((await verify('--from', join(folder, '.audit.jsonl.head'), source)).code, 0);
    const file = fileOf([head]);
    assert.equal((await verify('--from', file, fileOf(lines.slice(0, 3)))).code, 1);
  });

  it('says of an empty file that it is empty', async () => {
    const { code, text } = await verify(fileOf([]));
    assert.equal(code, 0);
    assert.match(text, /: empty, there is no record in it\n$/);
  });

  it('says of a last line without its end that it is not complete', async () => {
    const { code, text } = await verify(fileOf(Buffer.from(lines.join('\n').slice(0, -5))));
    assert.equal(code, 0);
    assert.match(text, /: line 12 is not complete/);
  });

  for (const args of [
    [],
    ['--from', 'x', 'f'],
    ['--from', '12', 'f'],
    ['no-such-file'],
    ['--form', '1', 'f'],
  ])
    it(`refuses ${JSON.stringify(args)}`, async () => assert.equal((await verify(...args)).code, 2));
});
