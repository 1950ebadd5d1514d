import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { own } from '../../test/e2e/support/process.ts';

/** The core of what is measured, and the one of the load generator. */
export const [measuredCore, loadCore] = [0, availableParallelism() > 1 ? 1 : 0];

/** Starts a program on the core of what is measured. */
export function startPinned(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): ChildProcess {
  return own(
    spawn('taskset', ['-c', String(measuredCore), ...argv], { env, stdio: ['ignore', 'ignore', 'pipe'] }),
  );
}

/** Puts a process, all its threads and all its children on one core. */
export function pin(pid: number, core: number): void {
  for (const each of withChildren(pid)) setCores(each, String(core));
}

/** Runs `use` while this process has the core of the load generator. */
export async function onLoadCore<T>(use: () => Promise<T>): Promise<T> {
  const before = /Cpus_allowed_list:\s+(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]!;
  setCores(process.pid, String(loadCore));
  try {
    return await use();
  } finally {
    setCores(process.pid, before);
  }
}

function setCores(pid: number, list: string): void {
  spawnSync('taskset', ['-a', '-c', '-p', list, String(pid)]);
}

/** A process and all that it has started, and those have. */
export function withChildren(pid: number): readonly number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), parentOf(name)] as const);
  const family = [pid];
  // It grows while it is walked.
  for (const each of family)
    family.push(...parents.filter(([, parent]) => parent === each).map(([child]) => child));
  return family;
}

function parentOf(pid: string): number | undefined {
  try {
    return Number(fieldsOf(Number(pid))[1]);
  } catch {
    // It has ended since.
    return undefined;
  }
}

/** proc(5), /proc/PID/stat, from the third field on: the second may have spaces in it. */
function fieldsOf(pid: number): readonly string[] {
  return readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^[^]*\) /, '')
    .split(' ');
}

/** The time that all threads of a process have run so far, in seconds. */
export function cpuSecondsOf(pid: number): number {
  try {
    // In nanoseconds; /proc/PID/stat has hundredths of a second.
    return (
      readdirSync(`/proc/${pid}/task`)
        .map((task) => Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]))
        .reduce((sum, each) => sum + each, 0) / 1e9
    );
  } catch {
    const fields = fieldsOf(pid);
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }
}

/** The most memory that a process has had resident so far, in KiB (VmHWM). */
export function peakRssKiBOf(pid: number): number {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
}
