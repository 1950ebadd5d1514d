import { parseArgs } from '../../base/parse-args.ts';

/** What `npm run bench` is asked for. */
export interface Options {
  readonly quick: boolean;
  /** The figures to measure; none: all. */
  readonly only: readonly string[];
  readonly list: boolean;
  readonly cpuProf: boolean;
  readonly write: boolean;
  readonly help: boolean;
}

/** The options, for people. */
export const help = `Usage: npm run bench [-- options]

  --quick       whether it works, and roughly what it comes to: three minutes
  --only NAME   only this figure; may be given several times
  --list        the names of the figures
  --cpu-prof    gateways of bulk and keystroke write V8 profiles to bench/profiles
  --write       measure nothing: write the newest run to docs/performance.md and
                its drawing
  --help        this text`;

/** Reads the arguments; gives what is wrong with them where they are not understood. */
export function parseOptions(argv: readonly string[], names: readonly string[]): Options | string {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        quick: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: [] },
        list: { type: 'boolean', default: false },
        'cpu-prof': { type: 'boolean', default: false },
        write: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    const unknown = values.only.find((name) => !names.includes(name));
    if (unknown !== undefined) return `there is no figure ${unknown}; there are ${names.join(', ')}`;
    return { ...values, cpuProf: values['cpu-prof'] };
  } catch (error) {
    return `${(error as Error).message}\n${help}`;
  }
}
