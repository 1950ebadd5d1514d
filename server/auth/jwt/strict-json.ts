/** A parsed JSON object. Its members are read with `ownProperty`, which sees own members only. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Parses the text of one JSON object. Throws `SyntaxError` for anything else, and for an object at any depth that has two
 * members of one name: parsers disagree on which one counts (RFC 8259 §4).
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
export function ownProperty(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** `text` is known to be JSON, so strings and brackets are all that must be looked at. */
function refuseDuplicates(text: string): void {
  // One entry for each open bracket: the names found so far in an object, undefined for an array.
  const open: (Set<string> | undefined)[] = [];
  let last = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      const end = endOfString(text, at);
      last = text.slice(at, end + 1);
      at = end;
    } else if (character === '{') open.push(new Set());
    else if (character === '[') open.push(undefined);
    else if (character === '}' || character === ']') open.pop();
    // A colon outside of strings follows a name, and nothing else.
    else if (character === ':') addName(open.at(-1)!, last);
  }
}

/** The index of the closing quote of the string whose opening quote is at `start`. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end;
}

/** Whether an odd number of backslashes precedes the character. */
function isEscaped(text: string, at: number): boolean {
  let first = at;
  while (text[first - 1] === '\\') first--;
  return (at - first) % 2 === 1;
}

function addName(names: Set<string>, quoted: string): void {
  // The name as it is decoded, since "sub" and "\u0073ub" are the same.
  const name = quoted.includes('\\') ? (JSON.parse(quoted) as string) : quoted.slice(1, -1);
  if (names.has(name)) throw new SyntaxError('two members of one name');
  names.add(name);
}
