import type { Duplex } from 'node:stream';
import type { EntryName } from '../../protocol/entries.ts';
import type { Secret } from '../../protocol/secret.ts';
import type { Target } from '../../protocol/target.ts';
import type { BufferingMemory, Evidence } from '../carrier/connector.ts';
import type { PresentedCredential } from '../credentials/with-credential.ts';
import type { Egress } from '../egress/egress.ts';
import type { Prove } from '../oauth/dpop.ts';
import type { ConnectionAges } from '../resume/learned-max-age.ts';
import type { TunnelObserver } from '../resume/tunnel-status-file.ts';

/** A request for a tunnel. */
export interface TunnelRequest {
  /** The gateway's own URL; ends in a slash. */
  readonly gateway: URL;
  readonly target: Target;
  readonly token: Secret;
  /** Creates the DPoP proof of a token that is bound to a key. */
  readonly createProof?: Prove;
  /** For resumable tunnels. Absent: the tunnel is resumed with the same token. */
  readonly later?: ReconnectSupport;
  /** Whether the tunnel must use this entry alone, also when it is resumed. */
  readonly isPinned?: boolean;
}

/** What a resumable tunnel needs after it is open. */
export interface ReconnectSupport {
  /** Runs `use` with a valid credential, and again with a renewed one when the gateway rejects the first. */
  withCredential<T>(signal: AbortSignal, use: (credential: PresentedCredential) => Promise<T>): Promise<T>;
  /** Writes a line for the person at the terminal. */
  warn(line: string): void;
  /** Remembers the age that connections reach. */
  readonly ages?: ConnectionAges;
  readonly watch?: TunnelObserver;
  /** Called when the tunnel was resumed by another entry, with what there is against the one before. */
  onEntry?(name: EntryName, evidence: Evidence): void;
  /** Remembers whether an intermediary buffers responses. */
  readonly isBuffered?: BufferingMemory;
  /** Time until a better entry is tried for a tunnel that uses another one. */
  readonly betterAfterMs?: number;
}

/** The client's side of an entry. */
export interface ClientEntry {
  readonly name: EntryName;
  /**
   * Opens the tunnel on a connection of its own and resolves to its byte stream, which the caller then owns.
   * Throws what `egress` throws, the gateway's error with its own code, or, where an intermediary answered,
   * `HTTP_UNEXPECTED`, `UPGRADE_REFUSED` or `GATEWAY_TIMEOUT`.
   */
  open(request: TunnelRequest, egress: Egress, signal: AbortSignal): Promise<Duplex>;
}

/** The path of a tunnel request under the gateway's URL. */
export function tunnelPath(request: TunnelRequest): string {
  const { host, port } = request.target;
  return `${request.gateway.pathname}tcp/${encodeURIComponent(host)}/${port}/`;
}
