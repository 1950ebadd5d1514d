/**
 * Ends a script with exit code 2 that is given a flag it does not know: one that is ignored seems to have worked. Flags can
 * have values (`--only=NAME`); `valued` names those whose value is the next argument. What comes after `--` is left alone.
 */
export async function refuseUnknownFlags(script, args, known, valued = []) {
  const end = args.indexOf('--');
  const flags = (end === -1 ? args : args.slice(0, end)).filter(
    (each, at) => each.startsWith('-') && !valued.includes(args[at - 1]),
  );
  const unknown = flags
    .map((flag) => flag.split('=')[0])
    .find((name) => ![...known, ...valued].includes(name));
  if (unknown === undefined) return;
  const all = [...known, ...valued];
  const near = await nearest(unknown, all);
  const advice =
    near !== undefined
      ? `; did you mean ${near}?`
      : all.length > 0
        ? `; there are ${all.join(', ')}`
        : '; there are none';
  console.error(`postern: ${script} has no flag ${unknown}${advice}`);
  process.exit(2);
}

/** Ends a script with exit code 2 that is given words and takes none. */
export function refuseWords(script, args) {
  const word = args.find((each) => !each.startsWith('-'));
  if (word === undefined) return;
  console.error(`postern: ${script} takes no argument, and not ${JSON.stringify(word)}`);
  process.exit(2);
}

/** Node.js before 22.18 cannot read the sources, and then no flag is suggested. */
async function nearest(name, known) {
  try {
    const { nearestName } = await import('../base/nearest-name.ts');
    return nearestName(name, known);
  } catch {
    return undefined;
  }
}
