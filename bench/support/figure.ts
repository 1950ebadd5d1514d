/** How to measure. */
export interface Effort {
  /**
   * Fewer and shorter rounds: whether it works, and roughly what it comes to. All figures together have three minutes
   * then: the side-by-side ones (bulk, keystroke) 50 s, each other one about 10 s. Every run says what each took.
   */
  readonly quick: boolean;
  /** For files; it goes away afterwards. */
  readonly folder: string;
  /** Where gateways write what they spend their time on. */
  readonly profiles?: string | undefined;
}

/** One line of a table: what it is about, and a number for each column; NaN where there is none. */
export interface Row<Column extends string = string> {
  readonly what: string;
  readonly values: Readonly<Record<Column, number>>;
  /** The kind of row that it is; those of one kind are beside each other. */
  readonly group?: string;
  /** What else there is to say. */
  readonly note?: string;
}

/** Something to measure, with its table. */
export interface Figure<Column extends string = string> {
  /** What `--only` takes. */
  readonly name: string;
  readonly title: string;
  /** It goes along the variants of `variants.ts`, which are there for one figure after the other. */
  readonly usesVariants?: true;
  /** Those that are shown: their headings and how many digits they have after the point. */
  readonly columns: Readonly<Partial<Record<Column, Heading<Column>>>>;
  readonly measure: (effort: Effort) => Promise<readonly Row<Column>[]>;
}

/** `range`: the columns whose values are shown behind it in brackets, the least and the most that was measured. */
export type Heading<Column extends string = string> = readonly [
  heading: string,
  digits: number,
  range?: readonly [minimum: Column, maximum: Column],
];

/** The value that as many are above as below. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value that this share is below; NaN where there is none. */
export function quantile(values: readonly number[], share: number): number {
  const at = Math.min(Math.floor(values.length * share), values.length - 1);
  return values.toSorted((a, b) => a - b)[at] ?? Number.NaN;
}

/** How many times the reference, pair by pair: the median of it. NaN without a reference. */
export function pairedRatio(values: readonly number[], reference: readonly number[]): number {
  const pairs = values.slice(0, reference.length).map((value, at) => value / reference[at]!);
  return median(pairs.filter(Number.isFinite));
}
