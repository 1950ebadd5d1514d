import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { median, pairedRatio } from './support/figure.ts';
import type { Effort, Figure, Row } from './support/figure.ts';
import { pour } from './support/load.ts';
import type { LoadTarget } from './support/load.ts';
import { cpuSecondsOf, onLoadCore, peakRssKiBOf, withChildren } from './support/processes.ts';
import { groupOf, inTurn, startVariants, unlessBroken } from './support/variants.ts';
import type { Flow, Variant } from './support/variant.ts';

/** From the target to the client, and back. */
const directions = ['down', 'up'] as const;
type Direction = (typeof directions)[number];

type BulkColumn = `${Direction}${'Cpu' | 'CpuLeast' | 'CpuMost' | 'Ratio' | 'MiBs'}` | 'rssMiB';
type BulkRow = Row<BulkColumn>;

/** What each variant spends on a byte, in each direction. */
export const bulk = {
  name: 'bulk',
  usesVariants: true,
  title: 'bulk, on loopback',
  columns: {
    downCpu: ['CPU s/GiB to client', 3, ['downCpuLeast', 'downCpuMost']],
    downRatio: ['× HAProxy', 2],
    downMiBs: ['MiB/s', 0],
    upCpu: ['CPU s/GiB to target', 3, ['upCpuLeast', 'upCpuMost']],
    upRatio: ['× HAProxy', 2],
    upMiBs: ['MiB/s', 0],
    rssMiB: ['peak RSS, MiB', 1],
  },
  measure: (effort: Effort) => onLoadCore(() => run(effort)),
} as const satisfies Figure<BulkColumn>;

/** Less says nothing. */
const minBytes = 16 * 1024 ** 2;

/** What one process of a variant has spent and has held. */
interface Share {
  readonly name: string;
  readonly cpuPerGiB: number;
  readonly rssMiB: number;
}

interface Sample {
  readonly shares: readonly Share[];
  readonly cpuPerGiB: number;
  readonly mibPerSecond: number;
}

/** The samples of a variant, one for each round. */
type Samples = Readonly<Record<Direction, Sample[]>>;

async function run(effort: Effort): Promise<readonly BulkRow[]> {
  const [windowMs, rounds] = effort.quick ? [150, 3] : [600, 7];
  const { all, target } = await startVariants(effort);
  const samples = new Map<Variant, Samples>(all.map((variant) => [variant, { down: [], up: [] }]));
  // The first round warms the code up.
  for (let round = -1; round < rounds; round++) {
    for (const direction of directions) {
      for (const variant of inTurn([...samples.keys()], round)) {
        const measured = (): Promise<Sample> => measure(variant, { target, direction, windowMs });
        const sample = await unlessBroken(variant, measured);
        if (sample === undefined) samples.delete(variant);
        else if (round >= 0) samples.get(variant)![direction].push(sample);
      }
    }
  }
  const reference = referenceOf(samples);
  return [...samples].map(([variant, each]) => row(variant, each, reference));
}

/** The HAProxy that spends less, both directions taken together: with splice or without. */
function referenceOf(samples: ReadonlyMap<Variant, Samples>): Samples | undefined {
  const cost = ({ down, up }: Samples): number => median(costs(down)) + median(costs(up));
  return [...samples]
    .filter(([{ what }]) => what.startsWith('HAProxy'))
    .map(([, each]) => each)
    .toSorted((a, b) => cost(a) - cost(b))[0];
}

function costs(samples: readonly Sample[]): readonly number[] {
  return samples.map(({ cpuPerGiB }) => cpuPerGiB);
}

function row(variant: Variant, samples: Samples, reference: Samples | undefined): BulkRow {
  const [down, up] = directions.map((direction) => {
    const cpu = costs(samples[direction]);
    const isFree = Object.keys(variant.servers).length === 0;
    return {
      cpu: isFree ? Number.NaN : median(cpu),
      minimum: Math.min(...cpu),
      maximum: Math.max(...cpu),
      ratio: isFree ? Number.NaN : pairedRatio(cpu, reference ? costs(reference[direction]) : []),
      mibs: median(samples[direction].map(({ mibPerSecond }) => mibPerSecond)),
    };
  }) as [Sides, Sides];
  const all = [...samples.down, ...samples.up].map(({ shares }) => shares);
  return {
    what: variant.what,
    group: groupOf(variant),
    values: {
      downCpu: down.cpu,
      downCpuLeast: down.minimum,
      downCpuMost: down.maximum,
      downRatio: down.ratio,
      downMiBs: down.mibs,
      upCpu: up.cpu,
      upCpuLeast: up.minimum,
      upCpuMost: up.maximum,
      upRatio: up.ratio,
      upMiBs: up.mibs,
      rssMiB:
        Math.max(...all.map((shares) => shares.reduce((sum, { rssMiB }) => sum + rssMiB, 0))) || Number.NaN,
    },
    note: noteOf(samples),
  };
}

interface Sides {
  readonly cpu: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly ratio: number;
  readonly mibs: number;
}

/** What each process has of it, where there is more than one. */
function noteOf({ down, up }: Samples): string {
  const names = [...new Set(down.flatMap(({ shares }) => shares.map(({ name }) => name)))];
  if (names.length < 2) return '';
  return names
    .map((name) => {
      const cpu = [down, up].map((samples) => medianOf(samples, name, 'cpuPerGiB').toFixed(2)).join('/');
      return `${name} ${cpu} s, ${medianOf(down, name, 'rssMiB').toFixed(0)} MiB`;
    })
    .join('; ');
}

function medianOf(samples: readonly Sample[], name: string, key: 'cpuPerGiB' | 'rssMiB'): number {
  return median(samples.map(({ shares }) => shares.find((share) => share.name === name)?.[key] ?? 0));
}

interface Round {
  readonly target: LoadTarget;
  readonly direction: Direction;
  readonly windowMs: number;
}

/** Looks at a flow for a while, when it flows as it does in the long run. */
async function measure(variant: Variant, { target, direction, windowMs }: Round): Promise<Sample> {
  let received = 0;
  target.play(direction === 'down' ? 'source' : 'sink');
  const flow = await variant.open((bytes) => (received += bytes));
  const takenBefore = target.taken();
  const bytes = (): number => (direction === 'down' ? received : target.taken() - takenBefore);
  try {
    if (direction === 'up') pour(flow.stream);
    await untilFlows(variant, bytes);
    await delay(windowMs / 2);
    const processes = processesOf(variant, flow);
    const before = {
      cpu: processes.map(({ pid }) => cpuSecondsOf(pid)),
      bytes: bytes(),
      at: performance.now(),
    };
    // On a machine that does other things as well, little comes through in that time.
    for (let windows = 0; windows < 20 && bytes() - before.bytes < minBytes; windows++) await delay(windowMs);
    const seconds = (performance.now() - before.at) / 1000;
    const gib = (bytes() - before.bytes) / 1024 ** 3;
    const shares = byName(
      processes.map(({ name, pid }, index) => ({
        name,
        cpuPerGiB: (cpuSecondsOf(pid) - before.cpu[index]!) / gib,
        rssMiB: peakRssKiBOf(pid) / 1024,
      })),
    );
    return {
      shares,
      cpuPerGiB: shares.reduce((sum, share) => sum + share.cpuPerGiB, 0),
      mibPerSecond: (gib * 1024) / seconds,
    };
  } finally {
    await flow.close();
    await target.cut();
  }
}

async function untilFlows({ what }: Variant, bytes: () => number): Promise<void> {
  const until = performance.now() + 10_000;
  while (bytes() === 0) {
    if (performance.now() > until) throw new Error(`nothing comes through ${what}`);
    await delay(2);
  }
}

/** Those that are there now: some have one for each connection. */
function processesOf({ servers }: Variant, { clients }: Flow): readonly { name: string; pid: number }[] {
  return Object.entries({ ...clients, ...servers }).flatMap(([name, pid]) =>
    withChildren(pid).map((each) => ({ name, pid: each })),
  );
}

/** A process and its children are one share. */
function byName(shares: readonly Share[]): readonly Share[] {
  const sums = new Map<string, Share>();
  for (const share of shares) {
    const { cpuPerGiB = 0, rssMiB = 0 } = sums.get(share.name) ?? {};
    sums.set(share.name, {
      name: share.name,
      cpuPerGiB: cpuPerGiB + share.cpuPerGiB,
      rssMiB: rssMiB + share.rssMiB,
    });
  }
  return [...sums.values()];
}
