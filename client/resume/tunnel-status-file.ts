import { readdirSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { readSmall, writePrivate } from '../os/files.ts';
import { isThere, ownIdentity, processState } from '../os/process-identity.ts';
import type { ProcessIdentity } from '../os/process-identity.ts';

/** A tunnel of this user on this machine, as recorded by its process. Times are ISO 8601. */
export interface LocalTunnel {
  readonly target: string;
  readonly gateway: string;
  readonly state: 'connected' | 'reconnecting';
  /** When it was opened. */
  readonly since: string;
  /** When it lost its connection, or got the current one. */
  readonly changed: string;
  /** Whether it survives the loss of its connection; otherwise it ends with it. */
  readonly resumable: boolean;
  /** How often it was resumed. */
  readonly resumes: number;
  readonly pid: number;
}

/** Receives the events of a tunnel. None of these methods is allowed to throw. */
export interface TunnelObserver {
  /** Absent: it is resumable. */
  opened(what?: { readonly resumable: boolean }): void;
  /** It has no connection. */
  lost(): void;
  /** It continues on another connection, whether or not it had lost the one before. */
  resumed(): void;
  ended(): void;
}

const maxBytes = 4096;
/** Above this number of files, those of killed processes are removed; not for each of hundreds of tunnels. */
const sweepAbove = 20;
const sweepMs = 60_000;

/** The files of this process. */
const own = new Set<string>();
/** When this process last swept, by directory. */
const sweptAt = new Map<string, number>();

/** Keeps a file about a tunnel of this process, for `postern status`. Nothing depends on it: errors are ignored. */
export function tunnelFile(state: string, { gateway, target }: TunnelNames): TunnelObserver {
  const directory = directoryIn(state);
  let path: string | undefined;
  let identity: ProcessIdentity | undefined;
  const since = new Date().toISOString();
  let resumes = 0;
  let resumable = true;
  const write = (how: LocalTunnel['state']): void => {
    identity ??= ownIdentity();
    const file = (path ??= reservePath(directory));
    const changed = new Date().toISOString();
    const names = { target: formatTarget(target), gateway: gateway.href };
    attempt(() =>
      writePrivate(
        file,
        `${JSON.stringify({ version: 1, ...identity, ...names, state: how, since, changed, resumable, resumes })}\n`,
      ),
    );
  };
  return {
    opened(what) {
      resumable = what?.resumable ?? true;
      write('connected');
      attempt(() => {
        const now = performance.now();
        if (now - (sweptAt.get(directory) ?? -Infinity) < sweepMs) return;
        if (readdirSync(directory).length <= sweepAbove) return;
        sweptAt.set(directory, now);
        sweep(directory);
      });
    },
    lost: () => write('reconnecting'),
    resumed() {
      resumes++;
      write('connected');
    },
    ended() {
      if (path === undefined) return;
      const file = path;
      own.delete(file);
      attempt(() => rmSync(file, { force: true }));
    },
  };
}

/** Reserves a file name that is unique in this process; most processes have one tunnel. */
function reservePath(directory: string): string {
  const first = join(directory, `${hostPrefix()}${process.pid}`);
  let path = `${first}.json`;
  for (let number = 2; own.has(path); number++) path = `${first}-${number}.json`;
  own.add(path);
  return path;
}

interface TunnelNames {
  readonly gateway: URL;
  readonly target: Target;
}

/** The tunnels of this user on this machine, the oldest first. Removes the files of killed processes. */
export function tunnelsHere(state: string): readonly LocalTunnel[] {
  const directory = directoryIn(state);
  try {
    sweep(directory);
    return namesOfThisHost(directory)
      .flatMap((name) => read(join(directory, name)) ?? [])
      .toSorted((a, b) => a.since.localeCompare(b.since));
  } catch {
    // There has never been a tunnel, or the home directory is not readable.
    return [];
  }
}

/** Removes the files of processes that have ended without doing so. */
function sweep(directory: string): void {
  for (const name of namesOfThisHost(directory)) {
    const path = join(directory, name);
    const [, writer] = /\.(\d+)\.[0-9a-f]{8}\.tmp$/.exec(name) ?? [];
    if (writer === undefined ? processState(parsed(path)) === 'ended' : !isThere(Number(writer)))
      rmSync(path, { force: true });
  }
}

function read(path: string): LocalTunnel | undefined {
  const value = parsed(path);
  const {
    version,
    target,
    gateway,
    state,
    since,
    changed,
    resumable = true,
    resumes,
    pid,
  } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (version !== 1 || (state !== 'connected' && state !== 'reconnecting')) return undefined;
  if (!isText(target) || !isText(gateway) || !isText(since) || !isText(changed)) return undefined;
  if (typeof resumes !== 'number' || typeof pid !== 'number') return undefined;
  // Older versions recorded only tunnels that are resumable.
  if (typeof resumable !== 'boolean') return undefined;
  return { target, gateway, state, since, changed, resumable, resumes, pid };
}

function parsed(path: string): unknown {
  try {
    return JSON.parse(readSmall(path, maxBytes, { follow: false }).bytes.toString());
  } catch {
    return undefined;
  }
}

/** The files of this machine: home directories can be shared, and processes of other machines cannot be checked. */
function namesOfThisHost(directory: string): readonly string[] {
  return readdirSync(directory).filter((name) => name.startsWith(hostPrefix()));
}

function hostPrefix(): string {
  return `${hostname()
    .replaceAll(/[^\w-]/g, '_')
    .slice(0, 64)}.`;
}

function directoryIn(state: string): string {
  return join(state, 'tunnels');
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function attempt(act: () => void): void {
  try {
    act();
  } catch {
    // Nothing depends on it.
  }
}
