import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** What the environment says of browsers. */
export interface BrowserSettings {
  /** `BROWSER`. */
  readonly command?: string;
  /** Whether a window could appear at all. */
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
    // As xdg-open reads it: alternatives by colon, words by space, %s where the URL goes.
    const first = platform === 'win32' ? command : command.split(':').find((each) => each.trim() !== '');
    const words = (first ?? '').split(/\s+/).filter((word) => word !== '');
    const placed = words.map((word) => word.replaceAll('%s', () => url.href));
    const [program, ...args] = words.some((word) => word.includes('%s')) ? placed : [...placed, url.href];
    return words.length === 0 ? undefined : [program!, ...args];
  }
  if (platform === 'darwin') return ['/usr/bin/open', url.href];
  if (platform === 'win32') {
    // `start` is a word of cmd.exe, which reads & and % in its own way; this is what it does in the end.
    return [
      join(systemRoot ?? 'C:\\Windows', 'System32', 'rundll32.exe'),
      'url.dll,FileProtocolHandler',
      url.href,
    ];
  }
  return hasDisplay ? ['xdg-open', url.href] : undefined;
}

/** Opens `url` and waits for nothing; whether a browser came up, only the person can see. Says whether it was tried. */
export function openBrowser(url: URL, settings: BrowserSettings): boolean {
  const command = browserCommand(url, settings);
  if (command === undefined) return false;
  const [program, ...args] = command;
  // Nothing of ours: the streams are those of ssh, and a browser outlives us.
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  child.on('error', () => {});
  child.unref();
  return true;
}
