import { fstatSync, statSync, writeSync } from 'node:fs';
import type { Stats } from 'node:fs';

/**
 * Whether the process at the other end of a standard stream is gone, without reading or writing a byte. Undefined where this
 * system does not tell.
 */
export interface StreamEnds {
  /** Nothing reads standard output any more. A file, a terminal or /dev/null always takes what is written. */
  hasReaderLeft(): boolean | undefined;
  /** Nothing will be written to standard input any more. Undefined also while something is there to read. */
  hasWriterLeft(): boolean | undefined;
}

/** How long a full pipe or a silent input can hold up the check. */
const pollMs = 5;

/**
 * Looks at the standard streams of this process. Node.js notices a reader that leaves only when there is something to write.
 *
 * For a socket a write of no bytes is refused with EPIPE once the peer has closed it (Linux, macOS); for a pipe such a write
 * always succeeds, and poll(2) has to be asked. The one documented way to it is `poll_oneoff` of `node:wasi`.
 */
export function streamEnds(): StreamEnds {
  if (process.platform === 'win32') return { hasReaderLeft: () => undefined, hasWriterLeft: () => undefined };
  const [input, output] = [kindOf(0), kindOf(1)];
  let poll: Poll | undefined;
  const look = (descriptor: 0 | 1): Readiness | undefined => (poll ??= loadPoll())(descriptor);
  return {
    hasReaderLeft() {
      if (output === 'socket') return refusesEmptyWrite(1);
      if (output !== 'pipe') return false;
      const found = look(1);
      return found && found.hasLeft;
    },
    hasWriterLeft() {
      if (input === 'file') return true;
      if (input === 'other') return false;
      const found = look(0);
      // What has not been read hides the end behind it.
      return found?.isReady && !found.hasLeft ? undefined : found?.hasLeft;
    },
  };
}

type Kind = 'pipe' | 'socket' | 'file' | 'other';

function kindOf(descriptor: number): Kind {
  try {
    const stats = fstatSync(descriptor);
    if (stats.isFIFO()) return 'pipe';
    if (stats.isSocket()) return 'socket';
    // Node.js opens /dev/null in place of a closed descriptor.
    return stats.isFile() || isDevNull(stats) ? 'file' : 'other';
  } catch {
    return 'other';
  }
}

function isDevNull(stats: Stats): boolean {
  return stats.isCharacterDevice() && stats.rdev === statSync('/dev/null').rdev;
}

function refusesEmptyWrite(descriptor: number): boolean {
  try {
    writeSync(descriptor, nothing);
    return false;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'EPIPE' || code === 'ECONNRESET';
  }
}

const nothing = new Uint8Array(0);

interface Readiness {
  /** There is something to read, or room to write. */
  readonly isReady: boolean;
  /** The other end is closed. */
  readonly hasLeft: boolean;
}

type Poll = (descriptor: 0 | 1) => Readiness | undefined;

/** The part of the WebAssembly API that is used; the types of Node.js do not declare it. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: object };
};

interface PollExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  readonly poll: (subscriptions: number, events: number, count: number, found: number) => number;
}

/** Loads `node:wasi` (some milliseconds): not before the first check. */
function loadPoll(): Poll {
  try {
    const { memory, poll } = instantiate();
    return (descriptor) => readPoll(descriptor, memory, poll);
  } catch {
    // Too old, or not permitted.
    return () => undefined;
  }
}

/** Offsets in the memory of the module, and sizes of its records (WASI preview 1). */
const at = { subscriptions: 0, events: 256, found: 512 } as const;
const subscriptionBytes = 48;
const tags = { clock: 0, read: 1, write: 2 } as const;

function readPoll(
  descriptor: 0 | 1,
  memory: PollExports['memory'],
  poll: PollExports['poll'],
): Readiness | undefined {
  const view = new DataView(memory.buffer);
  new Uint8Array(memory.buffer, 0, 1024).fill(0);
  view.setUint8(at.subscriptions + 8, descriptor === 0 ? tags.read : tags.write);
  view.setUint32(at.subscriptions + 16, descriptor, true);
  view.setUint8(subscriptionBytes + 8, tags.clock);
  view.setUint32(subscriptionBytes + 16, 1, true);
  view.setBigUint64(subscriptionBytes + 24, BigInt(pollMs * 1_000_000), true);
  if (poll(at.subscriptions, at.events, 2, at.found) !== 0) return undefined;
  const count = view.getUint32(at.found, true);
  let [isReady, hasLeft] = [false, false];
  for (let event = at.events; event < at.events + count * 32; event += 32) {
    if (view.getUint8(event + 10) === tags.clock) continue;
    isReady = true;
    // Linux reports an error for a pipe without a reader, macOS a hang-up.
    hasLeft = view.getUint16(event + 8, true) !== 0 || (view.getUint16(event + 24, true) & 1) !== 0;
  }
  return { isReady, hasLeft };
}

/** A WebAssembly module that exports its memory, and `poll_oneoff` as `poll`. */
const moduleBase64 =
  'AGFzbQEAAAABCQFgBH9/f38BfwImARZ3YXNpX3NuYXBzaG90X3ByZXZpZXcxC3BvbGxfb25lb2ZmAAAFAwEAAQcRAgZtZW1vcnkCAARwb2xsAAA=';

function instantiate(): PollExports {
  const wasi = new (loadWasi())({ version: 'preview1' });
  const module = new WebAssembly.Module(Buffer.from(moduleBase64, 'base64'));
  const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport });
  wasi.initialize(instance);
  return instance.exports as PollExports;
}

/** Node.js warns that the module is experimental as soon as it is loaded; users of ssh could not make sense of that. */
function loadWasi(): typeof import('node:wasi').WASI {
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = () => {};
  try {
    return process.getBuiltinModule('node:wasi').WASI;
  } finally {
    process.emitWarning = emitWarning;
  }
}
