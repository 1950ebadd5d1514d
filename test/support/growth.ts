/** How much more CPU time a function may take for eight times the input: 8 is linear, 64 is quadratic. */
const maxRatio = 24;
/** What no request costs too much by, whatever the ratio: the noise of a busy machine. In µs. */
const harmlessUs = 2000;
const rounds = 5;

/** The CPU time of this process for one call, in µs: the least of several, which what else runs here does not add to. */
function leastCpuUs(run: () => void): number {
  let least = Infinity;
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, user + system);
  }
  return least;
}

/**
 * Says how the CPU time of `read` grows when its input does, from an eighth of `maxLength` to all of it; undefined when it
 * grows as the input does, give or take. Errors of `read` are answers like others.
 */
export function growsTooFast<T>(
  read: (input: T) => unknown,
  inputOf: (length: number) => T,
  maxLength: number,
): string | undefined {
  const cpuUs = (length: number): number =>
    leastCpuUs(() => {
      try {
        read(inputOf(length));
      } catch {
        // A refusal.
      }
    });
  cpuUs(maxLength / 8);
  const [small, large] = [cpuUs(maxLength / 8), cpuUs(maxLength)];
  if (large <= harmlessUs + maxRatio * small) return undefined;
  return `${small} µs for ${maxLength / 8} bytes, ${large} µs for ${maxLength}`;
}

const units =
  String.raw` | 	|,|;|"|\|=|a|1|.|-|_|/|:|@|%|[|?|&|é|a | ,|a,|a=|="|\"|",|%3a|::|/a|a.|1.|eyJ|@a|&a=|: |a="|<!|'\ |a =|=,|pt_|//|{"a":|[[|Basic |-----BEGIN CERTIFICATE-----`
    .split('|')
    .concat('|', '\r\n', '\n ');

/** A run of one thing, with something else around it: what makes a parser look at each character again and again. */
export const hostileRuns: readonly ((length: number) => string)[] = units.flatMap((unit) => {
  const run = (length: number): string => unit.repeat(Math.ceil(length / unit.length)).slice(0, length);
  return [run, (length: number) => `a${run(length - 2)}b`, (length: number) => `a=${run(length - 3)}é`];
});
