/** A JSON object as it came: read its members by `member`, which sees own members only. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Parses the text of one JSON object. Throws `SyntaxError` for anything else, and for an object at any depth that names
 * a member twice: readers disagree on which one counts.
 */
export function parseJsonObject(text: string): JsonObject {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SyntaxError('not a JSON object');
  }
  refuseDuplicates(text);
  return value as JsonObject;
}

/** The object's own member; `__proto__` and `constructor` are names like any other. */
export function member(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

const token = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/gs;

/** `text` is known to be JSON, so that strings and brackets are all there is to look at. */
function refuseDuplicates(text: string): void {
  // One entry for each open bracket: the names seen in an object, nothing for an array.
  const open: (Set<string> | undefined)[] = [];
  let last = '';
  for (const [found] of text.matchAll(token)) {
    if (found === '{') open.push(new Set());
    else if (found === '[') open.push(undefined);
    else if (found === '}' || found === ']') open.pop();
    else if (found === ':') addName(open.at(-1)!, last);
    last = found;
  }
}

function addName(names: Set<string>, quoted: string): void {
  // The name as it reads, since "sub" and "\u0073ub" are the same.
  const name = JSON.parse(quoted) as string;
  if (names.has(name)) throw new SyntaxError('a member is named twice');
  names.add(name);
}
