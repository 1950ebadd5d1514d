import { closeSync, constants, openSync } from 'node:fs';

/** Whether a person could be at this process: it belongs to a terminal, whatever its streams are. */
export function hasTerminal(): boolean {
  if (process.platform === 'win32') return process.stderr.isTTY;
  try {
    closeSync(openSync('/dev/tty', constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}
