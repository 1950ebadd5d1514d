/** A shorter text is the beginning of too many names. */
const minPrefixLength = 3;

/** The known name that was probably meant by `text`, for "did you mean"; undefined where none is near. */
export function nearestName(text: string, known: Iterable<string>): string | undefined {
  const typed = text.toLowerCase();
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const each of known) {
    const name = each.toLowerCase();
    const isBeginning = typed.replace(/^-+/, '').length >= minPrefixLength && name.startsWith(typed);
    const distance = isBeginning ? 1 : editDistance(typed, name);
    const isNear = distance <= Math.max(1, Math.floor(each.length / 3));
    if (isNear && distance < bestDistance) [best, bestDistance] = [each, distance];
  }
  return best;
}

/** The number of letters to insert, remove or change, or of neighbours to swap (optimal string alignment). */
function editDistance(one: string, other: string): number {
  // No known name is this long, and comparing a long one takes time.
  if (one.length > 64) return Infinity;
  let before: readonly number[] = [];
  let row: readonly number[] = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (let i = 0; i < one.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++) {
      const change = row[j]! + (one[i] === other[j] ? 0 : 1);
      const isSwap = i > 0 && j > 0 && one[i] === other[j - 1] && one[i - 1] === other[j];
      next.push(Math.min(change, row[j + 1]! + 1, next[j]! + 1, isSwap ? before[j - 1]! + 1 : Infinity));
    }
    [before, row] = [row, next];
  }
  return row.at(-1)!;
}
