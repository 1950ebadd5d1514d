import { performance } from 'node:perf_hooks';
import { quantile } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { onLoadCore } from './support/processes.ts';
import { groupOf, inTurn, startVariants, unlessBroken } from './support/variants.ts';
import type { Variant } from './support/variant.ts';

type KeystrokeRow = Row<'medianMs' | 'p99Ms' | 'addedMedianMs' | 'addedP99Ms'>;

/** How long a keystroke takes to the target and back. */
export const keystroke = {
  name: 'keystroke',
  usesVariants: true,
  title: 'keystroke round trip (40 bytes), on loopback',
  columns: {
    medianMs: ['median ms', 3],
    p99Ms: ['p99 ms', 3],
    addedMedianMs: ['median more than direct', 3],
    addedP99Ms: ['p99 more than direct', 3],
  },
  measure: (effort: Effort) => onLoadCore(() => run(effort)),
} as const satisfies Figure<keyof KeystrokeRow['values']>;

const key = Buffer.alloc(40, 'k');
const patienceMs = 10_000;

async function run(effort: Effort): Promise<readonly KeystrokeRow[]> {
  const [rounds, keys] = effort.quick ? [3, 400] : [15, 600];
  const { all, target } = await startVariants(effort);
  target.play('echo');
  const times = new Map<Variant, number[]>(all.map((variant) => [variant, []]));
  for (let round = 0; round < rounds; round++) {
    for (const variant of inTurn([...times.keys()], round)) {
      const typed = await unlessBroken(variant, () => type(variant, keys));
      if (typed === undefined) times.delete(variant);
      else times.get(variant)!.push(...typed);
      await target.cut();
    }
  }
  return rows(times);
}

function rows(times: ReadonlyMap<Variant, readonly number[]>): readonly KeystrokeRow[] {
  const [direct] = [...times.values()];
  return [...times].map(([variant, each]) => {
    const [medianMs, p99Ms] = [quantile(each, 0.5), quantile(each, 0.99)];
    const added =
      each === direct
        ? [Number.NaN, Number.NaN]
        : [medianMs - quantile(direct!, 0.5), p99Ms - quantile(direct!, 0.99)];
    return {
      what: variant.what,
      group: groupOf(variant),
      values: { medianMs, p99Ms, addedMedianMs: added[0]!, addedP99Ms: added[1]! },
    };
  });
}

async function type(variant: Variant, keys: number): Promise<readonly number[]> {
  let missing = 0;
  let echoed: (() => void) | undefined;
  const flow = await variant.open((bytes) => {
    missing -= bytes;
    if (missing <= 0) echoed?.();
  });
  const times: number[] = [];
  const timer = setTimeout(
    () => flow.stream.destroy(new Error(`no echo through ${variant.what}`)),
    patienceMs,
  );
  const broken = new Promise<never>((_resolve, reject) => {
    flow.stream.once('close', () => reject(new Error(`${variant.what} broke, or sent no echo`)));
  });
  broken.catch(() => {});
  try {
    for (let number = 0; number < keys; number++) {
      const startedAt = performance.now();
      missing = key.length;
      const echo = new Promise<void>((resolve) => (echoed = resolve));
      flow.stream.write(key);
      await Promise.race([echo, broken]);
      // The first ones warm the code up.
      if (number >= keys / 4) times.push(performance.now() - startedAt);
    }
    return times;
  } finally {
    clearTimeout(timer);
    await flow.close();
  }
}
