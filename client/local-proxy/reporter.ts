import { printableJson } from '../../base/printable-json.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { reportError, writeStderr } from '../errors/report.ts';
import { printable } from '../os/terminal.ts';
import { protocolNames } from './detect-protocol.ts';
import type { LocalListener } from './listener.ts';

/** One cause often affects hundreds of tunnels at once: it is reported once, and then its count. */
const sameMs = 5000;
/** The same notice of many tunnels within this time is written once. */
const togetherMs = 300;

export interface ReporterOptions {
  readonly state: string;
  /** Events as JSON lines. */
  readonly json: boolean;
  /** Writes to stdout. */
  readonly print: (text: string) => void;
}

/** Keys of the JSON events that programs rely on. */
const eventKeys = { listeners: 'doors', notice: 'said' } as const;

/** The output of the local proxy: for people on stderr, and for programs on stdout. */
export class Reporter {
  readonly #options: ReporterOptions;
  /** How often each failure of the last seconds was repeated. */
  readonly #again = new Map<string, number>();
  readonly #together = new Map<string, Target[]>();

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  /** All listeners are open: a program that waits for this can connect now. */
  listening(listeners: readonly LocalListener[]): void {
    if (this.#options.json) {
      const addresses = listeners.map(({ name, address: { at, forward } }) => ({
        kind: at.kind,
        address: name,
        ...(forward === undefined ? { protocols: protocolNames } : { target: formatTarget(forward) }),
      }));
      return this.#event({ event: 'listening', pid: process.pid, [eventKeys.listeners]: addresses });
    }
    const lines = listeners.map(({ name, address: { forward } }) => {
      const what = forward === undefined ? protocolNames.join(', ') : `to ${formatTarget(forward)}`;
      return `listening on ${name} (${what})\n`;
    });
    this.#options.print(lines.join(''));
  }

  failed(error: TunnelError, target?: Target): void {
    const { code, facts, message } = error;
    const named = target === undefined ? {} : { target: formatTarget(target) };
    if (this.#options.json)
      this.#event({ event: 'failed', ...named, code, layer: facts.layer, message: printable(message) });
    const key = `${code} ${message}`;
    const count = this.#again.get(key);
    if (count !== undefined) return void this.#again.set(key, count + 1);
    reportError(error, this.#options.state, named.target);
    this.#again.set(key, 0);
    setTimeout(() => this.#reportRepeats(key), sameMs).unref();
  }

  #reportRepeats(key: string): void {
    const count = this.#again.get(key)!;
    this.#again.delete(key);
    if (count > 0)
      writeStderr(`postern: the same ${count} ${count === 1 ? 'time' : 'times'} more: ${printable(key)}\n`);
  }

  /** Writes a notice of a tunnel, a line that begins with `postern: `. */
  tunnelNotice(line: string, target: Target): void {
    const what = line.replace(/^postern: /, '').trimEnd();
    if (this.#options.json)
      this.#event({ event: 'tunnel', target: formatTarget(target), [eventKeys.notice]: what });
    const others = this.#together.get(what);
    if (others !== undefined) return void others.push(target);
    const targets = [target];
    this.#together.set(what, targets);
    setTimeout(() => {
      this.#together.delete(what);
      const subject = targets.length === 1 ? formatTarget(target) : `${targets.length} tunnels`;
      writeStderr(`postern: ${subject}: ${what}\n`);
    }, togetherMs).unref();
  }

  stopped(): void {
    if (this.#options.json) this.#event({ event: 'stopped' });
  }

  #event(event: object): void {
    this.#options.print(`${printableJson({ time: new Date().toISOString(), ...event })}\n`);
  }
}
