import type { Duplex } from 'node:stream';
import type { Finding } from '../../diagnostics/finding.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Target } from '../../protocol/target.ts';
import type { AccessResponse } from '../connect/gateway-api.ts';
import type { Egress } from '../egress/egress.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { sanitize } from '../errors/report.ts';
import { ClientError } from '../errors/failure.ts';
import type { ClientSettings } from '../settings.ts';

/** What is examined, and how thoroughly. */
export interface DoctorContext {
  readonly settings: ClientSettings;
  readonly egress: Egress;
  /** The host to reach; without one the path ends at the gateway. */
  readonly target?: Target;
  /** How long connections are held idle, in seconds; none: that is not measured. */
  readonly idleSeconds: readonly number[];
}

/** How connections leave this network. */
export interface EgressFacts {
  /** Whoever is connected to first. */
  readonly first: Target;
  /** What the proxy is called, without its password; absent: there is none on the way. */
  readonly proxy?: string;
  /** Whether there is another to try when that one is not there. */
  readonly hasOthers: boolean;
  /** One sentence for people. */
  readonly words: string;
}

/** What checks have found, for those after them. A check runs only when what it needs is there. */
export interface Facts {
  readonly way: EgressFacts;
  /** The addresses of whoever is connected to first: the proxy, else the gateway. */
  readonly addresses: readonly string[];
  /** There is somebody to ask for the way on. */
  readonly isReached: true;
  /** Milliseconds until a TCP connection stood. */
  readonly reachedMs: number;
  /** Connections come as far as the web server, with TLS where it is wanted. */
  readonly isConnected: true;
  readonly page: FetchedPage;
  readonly gateway: GatewayFacts;
  readonly access: AccessResponse;
  readonly probes: readonly Probe[];
  /** The entry that ssh would take. */
  readonly entry: EntryName;
  /** The gateway has connected to the target. */
  readonly isDialled: true;
  /** The target greets as an SSH server. */
  readonly isSsh: true;
  /** From the first byte to the SSH server until its answer. */
  readonly roundTripMs: number;
}

/** What the web server answered when it was asked for the discovery document. */
export interface FetchedPage {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  /** Who answered, as far as it says so. */
  readonly who: string;
  readonly location?: string;
  /** What time it is there, and here: milliseconds since the epoch. */
  readonly date?: number;
  readonly askedAt: number;
}

/** What the discovery document says. */
export interface GatewayFacts {
  readonly version: string;
  readonly entries: readonly string[];
}

/** What became of a request for a tunnel by one entry. */
export interface Probe {
  readonly entry: EntryName;
  /** `open`: bytes may flow. `answered`: the gateway itself said no. `blocked`: it did not get that far. */
  readonly state: 'open' | 'answered' | 'blocked';
  readonly failure?: TunnelError;
  /** What the target said first, when the tunnel is open. */
  readonly greeting?: Buffer;
}

/** What a check comes to. */
export interface Outcome {
  readonly findings: readonly Finding[];
  readonly found?: Partial<Facts>;
}

/** One step of the path. */
export interface Check {
  /** For programs, and the name of its own finding. */
  readonly name: string;
  readonly title: string;
  readonly needs: readonly (keyof Facts)[];
  /** Its own limit; what takes longer is a finding too. */
  readonly limitMs: number;
  run(found: Partial<Facts>, place: DoctorContext, signal: AbortSignal): Promise<Outcome>;
}

/** A check whose `run` may rely on what it needs. */
export function check<Need extends keyof Facts>(one: {
  readonly name: string;
  readonly title: string;
  readonly needs: readonly Need[];
  readonly limitMs: number;
  run(
    found: Partial<Facts> & Pick<Facts, Need>,
    place: DoctorContext,
    signal: AbortSignal,
  ): Promise<Outcome> | Outcome;
}): Check {
  return {
    ...one,
    run: async (found, place, signal) => one.run(found as Partial<Facts> & Pick<Facts, Need>, place, signal),
  };
}

/** What a check may say besides what it has found. */
export type Explanation = Pick<Finding, 'meaning' | 'advice' | 'lines' | 'shared'>;

/** Who says something: a check, or a part of one. */
export type CheckId = Pick<Finding, 'check' | 'title'>;

export function good({ check, title }: CheckId, what: string, words: Explanation = {}): Finding {
  return { check, title, verdict: 'good', what: sanitize(what), ...words };
}

export function costly({ check, title }: CheckId, what: string, words: Explanation = {}): Finding {
  return { check, title, verdict: 'costly', what: sanitize(what), ...words };
}

export function unchecked({ check, title }: CheckId, why: string): Finding {
  return { check, title, verdict: 'unchecked', what: sanitize(`not checked: ${why}`) };
}

/** What a failure of the product means to a doctor. Its own hint is what to do where the check knows nothing better. */
export function failed({ check, title }: CheckId, failure: TunnelError, words: Explanation = {}): Finding {
  const hint = failure instanceof ClientError && failure.hint ? failure.hint : undefined;
  const help =
    hint === undefined || words.advice !== undefined ? {} : { advice: 'this may help:', lines: [hint] };
  const request =
    failure instanceof ClientError && failure.requestId !== undefined ? `, request ${failure.requestId}` : '';
  return {
    check,
    title,
    verdict: 'failed',
    what: sanitize(`${failure.message}${request}`),
    code: failure.code,
    ...help,
    ...words,
  };
}

/** A failure of the first of several ways: the next is taken. */
export function survived(finding: Finding): Finding {
  const { code: _, ...rest } = finding;
  return { ...rest, verdict: 'costly', what: `${finding.what}; the next way out is tried` };
}

/** The bytes of a stream until `isEnough`, its end, or `signal`; the stream stays the caller's. */
export function readUntil(
  stream: Duplex,
  isEnough: (bytes: Buffer) => boolean,
  signal: AbortSignal,
): Promise<{ readonly bytes: Buffer; readonly hasEnded: boolean }> {
  return new Promise((resolve) => {
    let bytes = Buffer.alloc(0);
    const settle = (hasEnded: boolean): void => {
      stream.off('data', onData).off('end', onEnd).off('close', onEnd);
      signal.removeEventListener('abort', onAbort);
      stream.pause();
      resolve({ bytes, hasEnded });
    };
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      if (isEnough(bytes)) settle(false);
    };
    const onEnd = (): void => settle(true);
    const onAbort = (): void => settle(false);
    // What breaks it off is told by `close`.
    stream.on('error', () => {});
    stream.on('data', onData).once('end', onEnd).once('close', onEnd).resume();
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    else if (stream.destroyed || stream.readableEnded) onEnd();
  });
}
