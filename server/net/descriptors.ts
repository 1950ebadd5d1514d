import { readFileSync } from 'node:fs';

/** Kept for the operator's sockets, the store, the audit, the log and the other processes of the gateway: at least so many. */
const minReserved = 64;
const reservedShare = 0.1;

/** The sockets that a process can have open for tunnels and for callers, as far as its limit of open files goes. */
export class DescriptorBudget {
  /** The maximum of all sockets together. */
  readonly max: number;
  #used = 0;

  constructor(limit = openFilesLimit()) {
    this.max = Math.max(2, limit - Math.max(minReserved, Math.floor(limit * reservedShare)));
  }

  get used(): number {
    return this.#used;
  }

  /** Counts a socket that is about to be opened. Undefined when there is no room; otherwise the function that gives it back. */
  take(): (() => void) | undefined {
    if (this.#used >= this.max) return undefined;
    return this.add();
  }

  /** Counts a socket that is there. Returns the function that gives it back. */
  add(): () => void {
    this.#used++;
    let isOpen = true;
    return () => {
      if (isOpen) this.#used--;
      isOpen = false;
    };
  }
}

/** RLIMIT_NOFILE of this process. Node.js has raised it as far as it is allowed to. */
function openFilesLimit(): number {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    if (soft !== undefined) return Number(soft);
  } catch {
    // No Linux.
  }
  return limitOfReport() ?? Infinity;
}

function limitOfReport(): number | undefined {
  const report = process.report.getReport() as {
    readonly userLimits?: { readonly open_files?: { readonly soft: number | string } };
  };
  const soft = Number(report.userLimits?.open_files?.soft);
  return Number.isInteger(soft) ? soft : undefined;
}

/** That of this process. */
export const descriptors = new DescriptorBudget();
