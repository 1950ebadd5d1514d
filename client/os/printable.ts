const maxLength = 400;

/**
 * `text` for a terminal: one line of at most 400 characters, in which nothing can move the cursor, change colours
 * or turn the writing direction around.
 */
export function printable(text: string): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, '0')}`);
}
