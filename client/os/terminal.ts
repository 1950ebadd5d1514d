import { closeSync, constants, openSync } from 'node:fs';

/** Whether a user can be prompted: the process belongs to a terminal, whatever its streams are. */
export function hasTerminal(): boolean {
  if (process.platform === 'win32') return process.stderr.isTTY;
  try {
    closeSync(openSync('/dev/tty', constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}

const maxLength = 400;

/**
 * Formats `text` for a terminal: one line of at most 400 characters, in which nothing can move the cursor, change colours
 * or turn the writing direction around.
 */
export function printable(text: string): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0)!.toString(16).padStart(4, '0')}`);
}
