import type { EventEmitter } from 'node:events';
import type { Duplex, Readable, Writable } from 'node:stream';
import { TunnelEnded } from '../../stream/tunnel-ended.ts';
import { ClientError } from '../errors/failure.ts';
import { PooledInput } from '../../stream/zero-copy/pooled-input.ts';

/** Where the SSH stream comes from and goes to, and who tells us to leave. */
export interface Stdio {
  readonly input: Readable;
  readonly output: Writable;
  readonly signals: EventEmitter;
}

/** Exit codes of a process that a signal ended, as a shell gives them. */
const signalExits = { SIGHUP: 129, SIGTERM: 143 } as const;

/** ssh hangs up and does not wait: long enough to say goodbye to the gateway, too short to be noticed. */
const leaveMs = 250;

/** After a signal: time for an EOF of the input that came together with it. */
const inputEndMs = 20;

/**
 * Carries bytes between the tunnel and the caller until the tunnel's end has come and all of it is written; whether
 * the input has ended does not matter then. An end of the input is passed on and ends only that direction.
 * Resolves to the exit code: 0, also when the reader of the output has gone, or that of the signal.
 * Rejects with `TUNNEL_LOST`, or with why the gateway has ended the tunnel. Takes the tunnel over; on return the process should exit.
 */
export function carry(tunnel: Duplex, stdio: Stdio): Promise<number> {
  return new Promise((resolve, reject) => {
    const { input, output, signals } = stdio;
    const timers: NodeJS.Timeout[] = [];
    let settled = false;
    let exit = 0;

    const settle = (result: number | ClientError): void => {
      if (settled) return;
      settled = true;
      for (const timer of timers) clearTimeout(timer);
      signals.off('SIGHUP', onHangup).off('SIGTERM', onTerminate);
      input.unpipe(tunnel);
      input.pause();
      // After both ends this is an orderly close, before them an abort.
      tunnel.destroy();
      if (typeof result === 'number') resolve(result);
      else reject(result);
    };

    const flushed = (then: () => void): void => {
      if (output.destroyed || output.writableEnded) then();
      else output.write('', () => then());
    };

    // Bytes of the caller that are already on their way get a moment; a peer that reads nothing cannot keep us.
    const goodbye = (): void => {
      timers.push(setTimeout(() => settle(exit), leaveMs));
      tunnel.once('finish', () => settle(exit));
      if (tunnel.writableFinished) settle(exit);
      else if (!tunnel.writableEnded) tunnel.end();
    };

    const lose = (cause?: Error): void => {
      // A far side that has ended may refuse what it is still sent.
      const end = tunnel.readableEnded
        ? exit
        : cause instanceof TunnelEnded
          ? new ClientError(cause.code, cause.message, { cause })
          : cause instanceof ClientError
            ? cause
            : new ClientError('TUNNEL_LOST', lostMessage(cause), cause ? { cause } : {});
      flushed(() => settle(end));
    };

    // An orderly end is one that the far side answers: the EOF goes out first, and its own is waited for a moment.
    const leave = (signal: keyof typeof signalExits): void => {
      exit = signalExits[signal];
      timers.push(
        setTimeout(() => void (tunnel.writableEnded || tunnel.end()), inputEndMs),
        setTimeout(() => settle(exit), leaveMs),
      );
    };
    const onHangup = (): void => leave('SIGHUP');
    const onTerminate = (): void => leave('SIGTERM');
    signals.on('SIGHUP', onHangup).on('SIGTERM', onTerminate);

    tunnel.on('end', () => flushed(goodbye));
    tunnel.on('error', lose);
    tunnel.on('close', () => {
      if (!tunnel.readableEnded) lose();
    });
    output.on('error', () => settle(exit));
    input.on('error', (cause) => {
      if (isGone(cause)) settle(exit);
      else settle(new ClientError('TUNNEL_LOST', `cannot read the input: ${cause.message}`, { cause }));
    });

    tunnel.pipe(output, { end: false });
    feed(tunnel, input);
  });
}

/** An end of the input is one of the tunnel. */
function feed(tunnel: Duplex, input: Readable): void {
  if (!(input instanceof PooledInput)) return void input.pipe(tunnel);
  input.readDirect((bytes, release) => {
    // After a signal, what still comes has nowhere to go.
    if (tunnel.writableEnded || tunnel.destroyed) return true;
    return tunnel.write(bytes, release);
  });
  input.on('end', () => tunnel.end());
  tunnel.on('drain', () => input.resume());
}

function lostMessage(cause: NodeJS.ErrnoException | undefined): string {
  if (cause === undefined || cause.code === 'ECONNRESET')
    return 'the connection was cut before the session had ended';
  return `the connection broke before the session had ended: ${cause.message}`;
}

/** Whether the process that called us has left. */
function isGone(cause: Error): boolean {
  const { code } = cause as NodeJS.ErrnoException;
  return code === 'ECONNRESET' || code === 'EPIPE';
}
