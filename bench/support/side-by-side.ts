import type { Figure, Row } from './figure.ts';

type SideBySideColumn =
  | 'downCpu'
  | 'downCpuLeast'
  | 'downCpuMost'
  | 'downRatio'
  | 'upCpu'
  | 'upCpuLeast'
  | 'upCpuMost'
  | 'upRatio'
  | 'rssMiB'
  | 'addedMedianMs'
  | 'addedP99Ms';

/** The table that says it all: what each variant costs. */
export const sideBySideTable: Pick<Figure<SideBySideColumn>, 'title' | 'columns'> = {
  title: 'side by side, on loopback',
  columns: {
    downCpu: ['CPU s/GiB to client', 2, ['downCpuLeast', 'downCpuMost']],
    downRatio: ['× HAProxy', 2],
    upCpu: ['CPU s/GiB to target', 2, ['upCpuLeast', 'upCpuMost']],
    upRatio: ['× HAProxy', 2],
    addedMedianMs: ['keystroke + ms', 3],
    addedP99Ms: ['p99 + ms', 3],
    rssMiB: ['peak RSS, MiB', 0],
  },
};

/** The rows of bulk and of keystroke, those of one variant in one. */
export function sideBySide(
  bulk: readonly Row[],
  keystroke: readonly Row[],
): readonly Row<SideBySideColumn>[] {
  const typed = new Map(keystroke.map(({ what, values }) => [what, values]));
  return bulk.map((row) => {
    const values = { ...row.values, ...typed.get(row.what) };
    const columns = Object.entries(sideBySideTable.columns).flatMap(([key, [, , range = []]]) => [
      key,
      ...range,
    ]);
    return {
      ...row,
      values: Object.fromEntries(columns.map((key) => [key, values[key] ?? Number.NaN])) as Record<
        SideBySideColumn,
        number
      >,
    };
  });
}
