import type { Duplex } from 'node:stream';
import type { EntryName } from '../../protocol/entries.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Secret } from '../../protocol/secret.ts';
import type { Target } from '../../protocol/target.ts';
import type { Egress } from '../egress/egress.ts';
import type { Prove } from '../oauth/dpop.ts';

/** A tunnel to be asked for. */
export interface TunnelRequest {
  /** The gateway's own URL; ends in a slash. */
  readonly gateway: URL;
  readonly target: Target;
  readonly token: Secret;
  /** For a token that is bound to a key. */
  readonly createProof?: Prove;
  /** For tunnels that come back later, perhaps after a renewal. Absent: with the same token again. */
  readonly later?: ReconnectSupport;
  /** Whether only the entry that is asked may bring the tunnel, also when it comes back. */
  readonly isPinned?: boolean;
}

/** What a tunnel needs besides when it outlives its connections. */
export interface ReconnectSupport {
  /** Runs `use` with a pass that is good now, and again with a better one when the gateway does not take it. */
  withCredential<T>(signal: AbortSignal, use: (pass: PresentedCredential) => Promise<T>): Promise<T>;
  /** Tells the person at the terminal. */
  warn(line: string): void;
  /** Where what is learned about connections is kept. */
  readonly ages?: ConnectionAges;
  readonly watch?: TunnelObserver;
  /** Told when the tunnel goes on by another entry. */
  onEntry?(name: EntryName): void;
  /** Whether something on the way holds answers back that go on: what is known here, and where it is noted. */
  readonly isBuffered?: { recall(): boolean; keep(): void };
  /** After how long a better entry is tried for a tunnel that has come by another one. */
  readonly betterAfterMs?: number;
}

/** Told how a tunnel that outlives its connections fares. None of these may throw. */
export interface TunnelObserver {
  opened(): void;
  /** It has no connection. */
  lost(): void;
  /** It goes on on another connection, whether or not it had lost the one before. */
  resumed(): void;
  ended(): void;
}

/** What shows who asks. */
export type PresentedCredential = Pick<TunnelRequest, 'token' | 'createProof'>;

/** How old connections get here before something cuts them. */
export interface ConnectionAges {
  /** The age to stay below, in milliseconds; undefined while nothing is known. */
  readonly limitMs: number | undefined;
  /** Notes the age at which a connection was cut without a reason. */
  cutAt(ageMs: number): void;
}

/** The client's half of an entry. */
export interface ClientEntry {
  readonly name: EntryName;
  /**
   * Asks for the tunnel on a connection of its own and gives its byte stream, which the caller then owns.
   * Throws what `egress` throws, the gateway's refusal with its own code, or, where something else answered,
   * `HTTP_UNEXPECTED`, `UPGRADE_REFUSED` or `GATEWAY_TIMEOUT`.
   */
  open(request: TunnelRequest, egress: Egress, signal: AbortSignal): Promise<Duplex>;
}

/** Whether the request did not get through, or not unharmed, to a gateway that knows this entry. */
export function isTransportFailure({ facts }: TunnelError): boolean {
  return facts.layer === 'http' || facts.layer === 'upgrade';
}

/** The path of a tunnel request under the gateway's URL. */
export function tunnelPath(request: TunnelRequest): string {
  const { host, port } = request.target;
  return `${request.gateway.pathname}tcp/${encodeURIComponent(host)}/${port}/`;
}

/** The gateway as a target of its own, for the egress. */
export function gatewayTarget(gateway: URL): Target {
  const host = gateway.hostname.replace(/^\[|\]$/g, '');
  return { host, port: Number(gateway.port || (gateway.protocol === 'https:' ? 443 : 80)) };
}
