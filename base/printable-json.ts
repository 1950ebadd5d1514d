/**
 * `JSON.stringify` for a terminal: what a peer has put into a text cannot move the cursor, change colours or turn the
 * writing direction around. Control, format and unassigned characters are escaped, which JSON readers undo (RFC 8259 section
 * 7).
 */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) =>
    character === '\n' ? character : escaped(character),
  );
}

function escaped(character: string): string {
  let text = '';
  for (let at = 0; at < character.length; at++)
    text += `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`;
  return text;
}
