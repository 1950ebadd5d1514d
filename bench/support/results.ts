import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Row } from './figure.ts';
import { root } from './gateway.ts';
import { rivalVersions } from './rivals.ts';

/** A row as it is written down: its values beside what it is about. */
export type WrittenRow = Pick<Row, 'what' | 'group' | 'note'> & {
  readonly [column: string]: number | string | null | undefined;
};

/** One run. */
export interface Run {
  readonly at: string;
  readonly commit: string;
  /** Whether the tree had changes that no commit has. */
  readonly isDirty: boolean;
  readonly quick: boolean;
  readonly node: string;
  readonly machine: {
    readonly cpu: string;
    readonly cpus: number;
    readonly memoryGiB: number;
    readonly kernel: string;
  };
  /** What else the machine was doing says how much the figures are worth: the load average before the run. */
  readonly load: number;
  readonly rivals: Readonly<Record<string, string>>;
  readonly figures: Readonly<Record<string, readonly WrittenRow[]>>;
  /** Why there is nothing of these. */
  readonly failed: Readonly<Record<string, string>>;
}

const file = join(root, 'bench/results.jsonl');

/** What there is to say about a run before anything is measured. */
export function describeRun(quick: boolean): Omit<Run, 'figures' | 'failed'> {
  return {
    at: new Date().toISOString(),
    commit: git('rev-parse', '--short=12', 'HEAD'),
    isDirty: git('status', '--porcelain') !== '',
    quick,
    node: process.version,
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cpus: cpus().length,
      memoryGiB: Math.round(totalmem() / 1024 ** 3),
      kernel: /^[\d.]*\d/.exec(release())?.[0] ?? 'unknown',
    },
    load: loadavg()[0]!,
    rivals: rivalVersions(),
  };
}

/** Rows as they are written down. */
export function written(rows: readonly Row[]): readonly WrittenRow[] {
  return rows.map(({ what, group, note, values }) => ({
    what,
    ...(group === undefined ? {} : { group }),
    ...values,
    ...(note === undefined || note === '' ? {} : { note }),
  }));
}

/** The rows that were written down; what JSON has no number for is NaN again. */
export function rowsOf(rows: readonly WrittenRow[]): readonly Row[] {
  return rows.map(({ what, group, note, ...values }) => ({
    what,
    ...(group === undefined ? {} : { group }),
    ...(note === undefined ? {} : { note }),
    values: Object.fromEntries(
      Object.entries(values).map(([column, value]) => [column, value === null ? Number.NaN : Number(value)]),
    ),
  }));
}

/** Adds a run to those before. */
export function keep(run: Run): void {
  appendFileSync(file, `${JSON.stringify(run)}\n`);
}

/** The newest run that has all these figures. */
export function newestWith(names: readonly string[]): Run | undefined {
  if (!existsSync(file)) return undefined;
  const runs = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Run);
  return runs.findLast(({ figures }) => names.every((name) => name in figures));
}

function git(...args: readonly string[]): string {
  const { status, stdout } = spawnSync('git', args, { cwd: root, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : 'unknown';
}
