import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { definedOnly } from '../../base/defined-only.ts';
import { reason } from './files.ts';

/** Identifies one process in a file that can outlive it: a later process with the same number is another one. */
export interface ProcessIdentity {
  readonly host: string;
  readonly pid: number;
  /** Its start time as the kernel writes it; absent where the system does not publish it (there is no /proc). */
  readonly started?: string;
}

/** The identity of this process. */
export function ownIdentity(): ProcessIdentity {
  return { host: hostname(), pid: process.pid, ...definedOnly({ started: statOf(process.pid)?.started }) };
}

/**
 * `running` and `ended` are certain, and hold for a process that is slow or stopped too. `unknown`: it is on another machine,
 * its number is in use and nothing tells whether by the same process, or `value` is no identity.
 */
export type ProcessState = 'running' | 'ended' | 'unknown';

/** The state of the process that `value` identifies, a `ProcessIdentity` read from a file. */
export function processState(value: unknown): ProcessState {
  const { host, pid, started } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (host !== hostname() || typeof pid !== 'number') return 'unknown';
  if (!isThere(pid)) return 'ended';
  const stat = statOf(pid);
  // It has ended since the line before, or /proc cannot be read now: that says nothing about the process.
  if (stat === undefined) return isThere(pid) ? 'unknown' : 'ended';
  // Killed, and its parent has not collected it yet.
  if (stat.state === 'Z' || stat.state === 'X') return 'ended';
  if (typeof started !== 'string') return 'unknown';
  return stat.started === started ? 'running' : 'ended';
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

function statOf(pid: number): { readonly state: string; readonly started: string } | undefined {
  try {
    // Behind the name in brackets, which can contain anything: proc(5), fields 3 and 22.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)!.split(' ');
    return { state: fields[0]!, started: fields[19]! };
  } catch {
    return undefined;
  }
}
