const space = 0x20;
const tab = 0x09;

/**
 * `text` without the spaces and tabs around it: the optional whitespace of HTTP (RFC 9110 section 5.6.3), and nothing else
 * that `trim()` removes. Takes time in proportion to its length, which `/[ \t]+$/` does not: an expression tries every
 * space of the text as the beginning of the end.
 */
export function trimOptionalWhitespace(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isOptionalWhitespace(text.charCodeAt(start))) start++;
  while (end > start && isOptionalWhitespace(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isOptionalWhitespace(code: number): boolean {
  return code === space || code === tab;
}
