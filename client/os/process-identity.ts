import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { reason } from './files.ts';

/** Names one process in a file that may outlive it: a later process with the same number is told apart. */
export interface ProcessLife {
  readonly host: string;
  readonly pid: number;
  /** When it began, in the kernel's own words, where it tells. */
  readonly started?: string;
}

export function ownLife(): ProcessLife {
  const started = lifeOf(process.pid)?.started;
  return { host: hostname(), pid: process.pid, ...(started === undefined ? {} : { started }) };
}

/** Whether `value` names a process that has ended. One of another machine cannot be asked. */
export function hasEnded(value: unknown): boolean {
  const { host, pid, started } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (host !== hostname() || typeof pid !== 'number') return false;
  if (!isThere(pid)) return true;
  const life = lifeOf(pid);
  // Killed, and its parent has not taken notice yet; or the number belongs to another process by now.
  return life?.state === 'Z' || (typeof started === 'string' && life?.started !== started);
}

/** Whether there is a process with this number. */
export function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return reason(error) !== 'ESRCH';
  }
  return true;
}

function lifeOf(pid: number): { readonly state?: string; readonly started?: string } | undefined {
  try {
    // After the name, which may hold anything, in brackets: proc(5), fields 3 and 22.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ');
    return { state: fields[0]!, started: fields[19]! };
  } catch {
    return undefined;
  }
}
