import type { SystemHints } from '../egress.ts';
import { runCommand } from './run-command.ts';
import type { RunCommand } from './run-command.ts';
import type { SystemProxy } from './system-proxy.ts';

/** Reads the proxy settings of the system; undefined when there are none. Never throws. */
export async function readSystemProxy(
  { platform }: SystemHints,
  signal: AbortSignal,
  run: RunCommand = runCommand,
): Promise<SystemProxy | undefined> {
  if (platform === 'darwin') return (await import('./macos.ts')).readMacos(run, signal);
  if (platform === 'win32') return (await import('./windows.ts')).readWindows(run, signal);
  return (await import('./gnome.ts')).readGnome(run, signal);
}
