import type { EventEmitter } from 'node:events';
import type { Duplex, Readable, Writable } from 'node:stream';
import { TunnelEnded } from '../../stream/tunnel-ended.ts';
import { PooledInput } from '../../stream/zero-copy/pooled-input.ts';
import { hasReaderLeft } from '../../base/standard-output.ts';
import { ClientError } from '../errors/failure.ts';
import type { CallerWatch } from './caller-watch.ts';

/** Source and destination of the SSH stream, and the emitter of the signals that end the process. */
export interface Stdio {
  readonly input: Readable;
  readonly output: Writable;
  readonly signals: EventEmitter;
  /** Tells when the process at the other end of both streams is gone. */
  readonly caller?: CallerWatch;
}

/** Exit codes of a process that a signal ended, as a shell reports them. */
const signalExits = { SIGHUP: 129, SIGTERM: 143 } as const;

/** Time to end the tunnel in order. ssh hangs up without waiting: too short to be noticed. */
const closeMs = 250;

/** After a signal: time for an EOF of the input that came together with it. */
const inputEndMs = 20;

/**
 * Carries bytes between the tunnel and the caller until the tunnel's end has come and all of it is written; whether
 * the input has ended does not matter then. An end of the input is passed on and ends only that direction.
 * Resolves to the exit code: 0, also when the reader of the output has gone, or that of the signal.
 * Rejects with `TUNNEL_LOST`, with `OUTPUT_FAILED` when the output takes no more although it is read, or with the gateway's reason for ending the tunnel. Takes the tunnel over; on return the process should exit.
 */
export function carry(tunnel: Duplex, stdio: Stdio): Promise<number> {
  return new Promise((resolve, reject) => new StdioSession(tunnel, stdio, { resolve, reject }).start());
}

interface Outcome {
  readonly resolve: (exit: number) => void;
  readonly reject: (failure: ClientError) => void;
}

/** One run of `carry`: the first end of a stream, error or signal decides how it finishes. */
class StdioSession {
  readonly #tunnel: Duplex;
  readonly #stdio: Stdio;
  readonly #outcome: Outcome;
  readonly #timers: NodeJS.Timeout[] = [];
  #isFinished = false;
  #hasLeft = false;
  /** The code to exit with once everything is written. */
  #exit = 0;

  constructor(tunnel: Duplex, stdio: Stdio, outcome: Outcome) {
    this.#tunnel = tunnel;
    this.#stdio = stdio;
    this.#outcome = outcome;
  }

  start(): void {
    const tunnel = this.#tunnel;
    const { input, output, signals } = this.#stdio;
    signals.on('SIGHUP', this.#onHangup).on('SIGTERM', this.#onTerminate);
    tunnel.on('end', () => this.#afterOutput(() => this.#closeTunnel()));
    tunnel.on('error', (error) => this.#onTunnelLost(error));
    tunnel.on('close', () => {
      if (!tunnel.readableEnded) this.#onTunnelLost();
    });
    output.on('error', (cause) => {
      if (hasReaderLeft(cause)) this.#onLeft();
      else
        this.#finish(
          new ClientError('OUTPUT_FAILED', `cannot write the output: ${cause.message}`, { cause }),
        );
    });
    this.#stdio.caller?.handle({
      // A stalled output is watched by Node.js itself.
      isDue: () => (input.readableEnded || tunnel.writableNeedDrain) && output.writableLength === 0,
      hasInputEnded: () => input.readableEnded,
      onLeft: this.#onLeft,
    });
    // A caller that is killed closes both at once.
    input.once('end', () => setImmediate(() => this.#isFinished || this.#stdio.caller?.check()));
    input.on('error', (cause) => {
      if (hasCallerExited(cause)) this.#finish(this.#exit);
      else this.#finish(new ClientError('TUNNEL_LOST', `cannot read the input: ${cause.message}`, { cause }));
    });
    tunnel.pipe(output, { end: false });
    pipeInput(input, tunnel);
  }

  readonly #onHangup = (): void => this.#onSignal('SIGHUP');
  readonly #onTerminate = (): void => this.#onSignal('SIGTERM');

  /** That nothing reads the output is how each ssh leaves: the tunnel ends in order, and what it sends is dropped. */
  readonly #onLeft = (): void => {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    this.#tunnel.unpipe(this.#stdio.output);
    this.#tunnel.resume();
    this.#end();
  };

  #onSignal(signal: keyof typeof signalExits): void {
    this.#exit = signalExits[signal];
    this.#end();
  }

  /** Ends in order: the EOF goes out first, and the far side's EOF is waited for a moment. */
  #end(): void {
    this.#after(inputEndMs, () => void (this.#tunnel.writableEnded || this.#tunnel.end()));
    this.#after(closeMs, () => this.#finish(this.#exit));
  }

  /** Calls `then` once the output has taken everything that was written to it. */
  #afterOutput(then: () => void): void {
    const { output } = this.#stdio;
    if (output.destroyed || output.writableEnded) then();
    else output.write('', () => then());
  }

  /** Bytes of the caller that are already on their way get a moment; a peer that reads nothing cannot delay the exit further. */
  #closeTunnel(): void {
    const tunnel = this.#tunnel;
    this.#after(closeMs, () => this.#finish(this.#exit));
    tunnel.once('finish', () => this.#finish(this.#exit));
    if (tunnel.writableFinished) this.#finish(this.#exit);
    else if (!tunnel.writableEnded) tunnel.end();
  }

  #onTunnelLost(cause?: Error): void {
    // A far side that has ended is allowed to reject what it is still sent.
    const result = this.#tunnel.readableEnded || this.#hasLeft ? this.#exit : lostError(cause);
    this.#afterOutput(() => this.#finish(result));
  }

  #after(ms: number, act: () => void): void {
    this.#timers.push(setTimeout(act, ms));
  }

  #finish(result: number | ClientError): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    const { input, signals, caller } = this.#stdio;
    caller?.stop();
    for (const timer of this.#timers) clearTimeout(timer);
    signals.off('SIGHUP', this.#onHangup).off('SIGTERM', this.#onTerminate);
    input.unpipe(this.#tunnel);
    input.pause();
    // After both ends this is an orderly close, before them an abort.
    this.#tunnel.destroy();
    if (typeof result === 'number') this.#outcome.resolve(result);
    else this.#outcome.reject(result);
  }
}

/** Pipes `input` into the tunnel; its end becomes the EOF of that direction. */
function pipeInput(input: Readable, tunnel: Duplex): void {
  if (!(input instanceof PooledInput)) return void input.pipe(tunnel);
  input.readDirect((bytes, release) => {
    // After a signal, what still comes has nowhere to go.
    if (tunnel.writableEnded || tunnel.destroyed) return true;
    return tunnel.write(bytes, release);
  });
  input.on('end', () => tunnel.end());
  tunnel.on('drain', () => input.resume());
}

/** The gateway's reason where it gave one, else `TUNNEL_LOST`. */
function lostError(cause: Error | undefined): ClientError {
  if (cause instanceof TunnelEnded) return new ClientError(cause.code, cause.message, { cause });
  if (cause instanceof ClientError) return cause;
  return new ClientError('TUNNEL_LOST', lostMessage(cause), cause ? { cause } : {});
}

function lostMessage(cause: NodeJS.ErrnoException | undefined): string {
  if (cause === undefined || cause.code === 'ECONNRESET')
    return 'the connection was closed before the session had ended';
  return `the connection failed before the session had ended: ${cause.message}`;
}

/** Whether an error of the input only means that the calling process has exited. */
function hasCallerExited(cause: Error): boolean {
  const { code } = cause as NodeJS.ErrnoException;
  return code === 'ECONNRESET' || code === 'EPIPE';
}
