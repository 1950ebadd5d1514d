import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** The settings of the environment that concern browsers. */
export interface BrowserSettings {
  /** `BROWSER`. */
  readonly command?: string;
  /** Whether there is a display for a window. */
  readonly hasDisplay: boolean;
  /** `SystemRoot` of Windows. */
  readonly systemRoot?: string;
}

/** The command that opens `url`, without a shell; undefined where no browser can be expected. */
export function browserCommand(
  url: URL,
  settings: BrowserSettings,
  platform: NodeJS.Platform = process.platform,
): readonly [command: string, ...args: string[]] | undefined {
  const { command, hasDisplay, systemRoot } = settings;
  if (command !== undefined) {
    // As xdg-open reads it: alternatives separated by colons, words by spaces, the URL in place of %s.
    const first = platform === 'win32' ? command : command.split(':').find((each) => each.trim() !== '');
    const words = (first ?? '').split(/\s+/).filter((word) => word !== '');
    const placed = words.map((word) => word.replaceAll('%s', () => url.href));
    const [program, ...args] = words.some((word) => word.includes('%s')) ? placed : [...placed, url.href];
    return words.length === 0 ? undefined : [program!, ...args];
  }
  if (platform === 'darwin') return ['/usr/bin/open', url.href];
  if (platform === 'win32') {
    // `start` belongs to cmd.exe, which interprets & and %; this is what it calls.
    return [
      join(systemRoot ?? 'C:\\Windows', 'System32', 'rundll32.exe'),
      'url.dll,FileProtocolHandler',
      url.href,
    ];
  }
  return hasDisplay ? ['xdg-open', url.href] : undefined;
}

/** Opens `url` without waiting; whether there is a browser to open. Whether its window appears, only the person can see. */
export function openBrowser(url: URL, settings: BrowserSettings): boolean {
  const command = browserCommand(url, settings);
  if (command === undefined) return false;
  const [program, ...args] = command;
  // No inherited streams: they are those of ssh. Detached: the browser outlives this process.
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  child.on('error', () => {});
  child.unref();
  return true;
}
