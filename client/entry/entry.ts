import type { Duplex } from 'node:stream';
import type { Secret } from '../../protocol/secret.ts';
import type { Target } from '../../protocol/target.ts';
import type { BufferingMemory } from '../carrier/connector.ts';
import type { PresentedCredential } from '../credentials/with-credential.ts';
import type { Egress } from '../egress/egress.ts';
import type { Prove } from '../oauth/dpop.ts';
import type { ConnectionAges } from '../resume/learned-max-age.ts';
import type { TunnelObserver } from '../resume/tunnel-status-file.ts';

/** The ways into a gateway, in the order in which they are tried. */
export const entryNames = ['relay', 'websocket', 'connect-tcp', 'connect', 'http'] as const;
export type EntryName = (typeof entryNames)[number];

/** Whether `text` names an entry. */
export function isEntryName(text: unknown): text is EntryName {
  return (entryNames as readonly unknown[]).includes(text);
}

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
  readonly isBuffered?: BufferingMemory;
  /** After how long a better entry is tried for a tunnel that has come by another one. */
  readonly betterAfterMs?: number;
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

/** The path of a tunnel request under the gateway's URL. */
export function tunnelPath(request: TunnelRequest): string {
  const { host, port } = request.target;
  return `${request.gateway.pathname}tcp/${encodeURIComponent(host)}/${port}/`;
}
