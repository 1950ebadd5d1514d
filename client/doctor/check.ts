import type { Duplex } from 'node:stream';
import { onAbort } from '../../base/deadline.ts';
import { skipped } from '../../diagnostics/finding.ts';
import type { CheckId, Explanation, Finding } from '../../diagnostics/finding.ts';
import type { Check, Outcome } from '../../diagnostics/run-checks.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import type { AccessResponse } from '../connect/gateway-api.ts';
import type { Egress } from '../egress/egress.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { sanitize } from '../errors/report.ts';
import { maskPlainSecrets } from '../../protocol/secret-forms.ts';
import { printable } from '../os/terminal.ts';
import { ClientError } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';

/** What the doctor examines, and how thoroughly. */
export interface ClientDoctorContext {
  readonly settings: ClientSettings;
  readonly egress: Egress;
  /** The host to reach; without one the checks end at the gateway. */
  readonly target?: Target;
  /** How long connections are held idle, in seconds; empty: not measured. */
  readonly idleSeconds: readonly number[];
}

/** How connections leave this network. */
export interface EgressFacts {
  /** The proxy, else the gateway. */
  readonly first: Target;
  /** The proxy's URL without its password; absent: a direct connection. */
  readonly proxy?: string;
  /** Whether there is another hop to try when that one is unreachable. */
  readonly hasOthers: boolean;
  /** One sentence for people. */
  readonly words: string;
}

/** What checks have found, for the checks after them. */
export interface ClientFacts {
  readonly route: EgressFacts;
  /** The addresses of the first peer: the proxy, else the gateway. */
  readonly addresses: readonly string[];
  /** The first peer, or another one, accepts connections. */
  readonly isReached: true;
  /** Duration of the TCP connect, in milliseconds. */
  readonly reachedMs: number;
  /** Connections reach the web server, with TLS where the gateway URL says so. */
  readonly isConnected: true;
  readonly page: FetchedPage;
  readonly gateway: DiscoveryFacts;
  readonly access: AccessResponse;
  readonly probes: readonly Probe[];
  /** The entry that ssh would use. */
  readonly entry: EntryName;
  /** The gateway has connected to the target. */
  readonly isDialled: true;
  /** The target greets as an SSH server. */
  readonly isSsh: true;
  /** From the first byte sent to the SSH server until its response, in milliseconds. */
  readonly roundTripMs: number;
}

/** The web server's response to a request for the discovery document. */
export interface FetchedPage {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  /** The server, as far as it identifies itself. */
  readonly server: string;
  readonly location?: string;
  /** The server's time, and the local time of the request: milliseconds since the epoch. */
  readonly date?: number;
  readonly requestedAt: number;
}

/** The content of the discovery document. */
export interface DiscoveryFacts {
  readonly version: string;
  readonly entries: readonly string[];
}

/** The result of a request for a tunnel by one entry. */
export interface Probe {
  readonly entry: EntryName;
  /** `open`: bytes can flow. `answered`: the gateway itself refused. `blocked`: the request did not reach the gateway. */
  readonly state: 'open' | 'answered' | 'blocked';
  readonly failure?: TunnelError;
  /** The target's first bytes, when the tunnel is open. */
  readonly greeting?: Buffer;
}

export type ClientCheck = Check<ClientDoctorContext, ClientFacts>;
export type ClientOutcome = Outcome<ClientFacts>;

/** A check whose `run` may rely on what it needs. */
export function check<Need extends keyof ClientFacts>(one: {
  readonly name: string;
  readonly title: string;
  readonly needs: readonly Need[];
  readonly limitMs: number;
  run(
    found: Partial<ClientFacts> & Pick<ClientFacts, Need>,
    context: ClientDoctorContext,
    signal: AbortSignal,
  ): Promise<ClientOutcome> | ClientOutcome;
}): ClientCheck {
  return {
    ...one,
    run: async (found, context, signal) =>
      one.run(found as Partial<ClientFacts> & Pick<ClientFacts, Need>, context, signal),
  };
}

export function ok({ check, title }: CheckId, what: string, words: Explanation = {}): Finding {
  return { check, title, status: 'ok', what: printable(maskPlainSecrets(what)), ...words };
}

export function warning({ check, title }: CheckId, what: string, words: Explanation = {}): Finding {
  return { check, title, status: 'warning', what: sanitize(what), ...words };
}

export function skip(id: CheckId, why: string): Finding {
  return skipped(id, sanitize(why));
}

/** The finding for a failure of the product. The failure's own hint is the fix where the check has no better one. */
export function failed({ check, title }: CheckId, failure: TunnelError, words: Explanation = {}): Finding {
  const hint = failure instanceof ClientError && failure.hint ? failure.hint : undefined;
  const help =
    hint === undefined || words.advice !== undefined ? {} : { advice: 'this may help:', lines: [hint] };
  const request =
    failure instanceof ClientError && failure.requestId !== undefined ? `, request ${failure.requestId}` : '';
  return {
    check,
    title,
    status: 'error',
    what: sanitize(`${failure.message}${request}`),
    code: failure.code,
    ...help,
    ...words,
  };
}

/** Softens the failure of a first hop that has alternatives. */
export function survived(finding: Finding): Finding {
  const { code: _, ...rest } = finding;
  return { ...rest, status: 'warning', what: `${finding.what}; the next route is tried` };
}

/** Reads a stream until `isEnough`, its end, or `signal`; the stream stays the caller's. */
export function readUntil(
  stream: Duplex,
  isEnough: (bytes: Buffer) => boolean,
  signal: AbortSignal,
): Promise<{ readonly bytes: Buffer; readonly hasEnded: boolean }> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    let removeListener: (() => void) | undefined;
    const finish = (hasEnded: boolean): void => {
      stream.off('data', onData).off('end', onEnd).off('close', onEnd);
      removeListener?.();
      stream.pause();
      resolve({ bytes, hasEnded });
    };
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      if (isEnough(bytes)) finish(false);
    };
    const onEnd = (): void => finish(true);
    // A failure is reported by `close`.
    stream.on('error', () => {});
    stream.on('data', onData).once('end', onEnd).once('close', onEnd).resume();
    if (signal.aborted) finish(false);
    else if (stream.destroyed || stream.readableEnded) onEnd();
    else removeListener = onAbort(signal, () => finish(false));
  });
}
