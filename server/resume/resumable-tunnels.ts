import { randomBytes } from 'node:crypto';
import { TunnelError } from '../../protocol/errors.ts';
import type { TunnelErrorCode } from '../../protocol/errors.ts';
import type { RelayOpened } from '../../protocol/relay-frame.ts';
import type { Target } from '../../protocol/target.ts';
import { RelayStream } from '../../stream/relay-stream.ts';
import type { ReplayBudget } from '../../stream/relay/write-side.ts';
import type { Carrier, CarrierEnd } from '../../stream/carrier.ts';
import { TunnelEnded } from '../../stream/tunnel-ended.ts';
import type { Principal } from '../auth/authenticator.ts';
import type { ResumeOffer } from '../session/offer.ts';
import { isProven, macKey } from './resume-proof.ts';
import { tunnelNotFound } from './tunnel-locator.ts';
import type { TunnelOwner } from './tunnel-locator.ts';
import type { Session, Sessions } from '../session/sessions.ts';

export interface ResumableTunnelsOptions {
  readonly sessions: Sessions;
  /** Names this process in the ids of its tunnels. */
  readonly instance: string;
  /** How long a tunnel without a connection is kept, in milliseconds. */
  readonly keepMs: number;
  /** The same for one whose target has closed; a minute at most by default. */
  readonly endedKeepMs?: number;
  readonly windowBytes: number;
  /** The maximum of all tunnels together of bytes kept for replay. */
  readonly totalBytes: number;
  readonly carrierMs?: number;
  readonly keepAliveMs?: number;
}

/** Asked all at once, they would all reconnect at once: 250 a second leave the process that accepts them time for others. */
const reconnectBatchSize = 25;
const reconnectBatchIntervalMs = 100;

/**
 * A tunnel whose target has closed has nothing more to come: its client has this long to fetch what was last sent. Without the
 * end in its window it has all the time of the others.
 */
const defaultEndedKeepMs = 60_000;

/** The reason for the end of a tunnel is remembered for its owner, of this many tunnels. */
const maxTombstones = 10_000;

/** The resumable tunnels of this process, with and without a connection. */
export class ResumableTunnels {
  readonly #options: ResumableTunnelsOptions;
  readonly #tunnels = new Map<string, ResumableTunnel>();
  /** The tunnels without a connection, in the order in which they lost it. */
  readonly #detached = new Set<ResumableTunnel>();
  readonly #tombstones = new Map<string, Tombstone>();
  #unackedBytes = 0;
  readonly #budget: ReplayBudget;
  #reconnecting: NodeJS.Timeout | undefined;

  constructor(options: ResumableTunnelsOptions) {
    this.#options = options;
    const within = (): boolean => this.#unackedBytes <= options.totalBytes;
    const add = (bytes: number): void => {
      this.#unackedBytes += bytes;
      if (bytes > 0 && !within()) this.#evict();
    };
    this.#budget = {
      add,
      get isOver() {
        return !within();
      },
    };
  }

  /** Bytes kept for replay. */
  get unackedBytes(): number {
    return this.#unackedBytes;
  }

  get detachedCount(): number {
    return this.#detached.size;
  }

  /** Creates the tunnel of a session on its first carrier, which it takes over. */
  open(sessionId: string, carrier: Carrier, { isPlain }: { readonly isPlain: boolean }): RelayStream {
    const { instance, keepMs, windowBytes, carrierMs } = this.#options;
    const sid = `${instance}.${randomBytes(32).toString('base64url')}`;
    const secret = isPlain ? undefined : randomBytes(32);
    const tunnel = new ResumableTunnel({
      session: () => this.#options.sessions.find(sessionId),
      secret: secret && macKey(secret.toString('base64url')),
      sid,
      stream: new RelayStream({
        isV4: isPlain,
        windowBytes,
        budget: this.#budget,
        ...(this.#options.keepAliveMs !== undefined && { keepAliveMs: this.#options.keepAliveMs }),
        onDetached: (end) => this.#detach(tunnel, end),
      }),
    });
    this.#tunnels.set(sid, tunnel);
    tunnel.stream.on('error', (error) => (tunnel.error = error));
    tunnel.stream.once('endWritten', () => this.#endWritten(tunnel));
    tunnel.stream.once('close', () => this.#remove(tunnel));
    carrier.send({
      kind: 'opened',
      sid,
      ...(secret && { secret: secret.toString('base64url'), windowBytes, keepMs }),
      ...(carrierMs !== undefined && { carrierMs }),
    } satisfies RelayOpened);
    tunnel.stream.attach(carrier, { peerReceived: 0, from: 0 });
    return tunnel.stream;
  }

  /**
   * The tunnel of this id, if it belongs to `owner`. Throws `TUNNEL_GONE` when there is none or it has another owner, or
   * the reason for which it was ended.
   */
  find(sid: string, owner: TunnelOwner): ResumableTunnel {
    const tunnel = this.#tunnels.get(sid);
    if (tunnel?.principal && isSame(tunnel.principal, owner)) return tunnel;
    const tombstone = this.#tombstones.get(sid);
    if (tombstone !== undefined && isSame(tombstone.principal, owner))
      throw new TunnelError(tombstone.code, tombstone.message);
    throw tunnelNotFound();
  }

  /**
   * Resumes a tunnel on another carrier, which it takes over. Throws `TUNNEL_GONE`, `REJOIN_INVALID` when that is no longer
   * possible; the carrier is dropped then.
   */
  resume(tunnel: ResumableTunnel, carrier: Carrier, offer: ResumeOffer): void {
    try {
      // Another request can have been faster, or the tunnel's end.
      tunnel.check(offer);
    } catch (error) {
      carrier.drop();
      throw error;
    }
    clearTimeout(tunnel.expiry);
    this.#detached.delete(tunnel);
    const replayedBytes = tunnel.resume(carrier, offer);
    const { id: requestId, remoteAddress, cause } = offer;
    tunnel.session?.resumed({ requestId, remoteAddress, cause, replayedBytes });
  }

  /** Asks the clients of all tunnels to reconnect, some at a time. */
  requestReconnect(): void {
    clearInterval(this.#reconnecting);
    const waiting = [...this.#tunnels.values()];
    const requestSome = (): void => {
      for (const { stream } of waiting.splice(0, reconnectBatchSize)) stream.requestReconnect();
      if (waiting.length === 0) clearInterval(this.#reconnecting);
    };
    this.#reconnecting = setInterval(requestSome, reconnectBatchIntervalMs);
    this.#reconnecting.unref();
    requestSome();
  }

  #detach(tunnel: ResumableTunnel, end: CarrierEnd): void {
    this.#detached.add(tunnel);
    this.#expireLater(tunnel);
    tunnel.session?.detached(end.how);
  }

  #endWritten(tunnel: ResumableTunnel): void {
    tunnel.isEnding = true;
    if (this.#detached.has(tunnel)) this.#expireLater(tunnel);
  }

  #expireLater(tunnel: ResumableTunnel): void {
    const { keepMs, endedKeepMs = defaultEndedKeepMs } = this.#options;
    clearTimeout(tunnel.expiry);
    tunnel.expiry = setTimeout(
      () => tunnel.stream.destroy(new TunnelError('TUNNEL_LOST', 'its client did not resume it')),
      tunnel.isEnding ? Math.min(keepMs, endedKeepMs) : keepMs,
    );
    tunnel.expiry.unref();
  }

  /** Those that have waited longest are ended first; when all have a connection, `isOver` slows them down. */
  #evict(): void {
    for (const tunnel of this.#detached) {
      if (this.#unackedBytes <= this.#options.totalBytes) return;
      if (tunnel.stream.unackedBytes === 0) continue;
      tunnel.session?.abort('SHED', 'the resumable tunnels kept too many bytes');
    }
  }

  #remove(tunnel: ResumableTunnel): void {
    clearTimeout(tunnel.expiry);
    this.#tunnels.delete(tunnel.sid);
    this.#detached.delete(tunnel);
    const { principal, error } = tunnel;
    if (principal === undefined || error === undefined) return;
    this.#tombstones.set(tunnel.sid, { principal, ...tombstoneReason(error) });
    if (this.#tombstones.size > maxTombstones) this.#tombstones.delete(this.#tombstones.keys().next().value!);
  }
}

interface Tombstone {
  readonly principal: Principal;
  readonly code: TunnelErrorCode;
  readonly message: string;
}

interface TunnelParts {
  readonly sid: string;
  readonly stream: RelayStream;
  readonly secret: Buffer | undefined;
  readonly session: () => Session | undefined;
}

/** One resumable tunnel. */
class ResumableTunnel {
  readonly sid: string;
  readonly stream: RelayStream;
  expiry: NodeJS.Timeout | undefined;
  /** Whether the target has closed, and everything of it waits to be fetched. */
  isEnding = false;
  error: Error | undefined;
  readonly #secret: Buffer | undefined;
  readonly #session: () => Session | undefined;
  #count = 0;
  /** Kept beyond the end of the session. */
  #principal: Principal | undefined;

  constructor({ sid, stream, secret, session }: TunnelParts) {
    this.sid = sid;
    this.stream = stream;
    this.#secret = secret;
    this.#session = session;
  }

  get session(): Session | undefined {
    return this.#session();
  }

  get principal(): Principal | undefined {
    this.#principal ??= this.session?.record.principal;
    return this.#principal;
  }

  /** The target, as the client requested it when it opened the tunnel. */
  get target(): Target | undefined {
    return this.session?.record.grant?.target;
  }

  /**
   * Checks that a request proves the tunnel's secret, is newer than the one before, and has a possible position. Throws
   * `TUNNEL_GONE`, `REJOIN_INVALID`.
   */
  check({ sid, received, proof }: ResumeOffer): void {
    if (!this.stream.canResume) throw tunnelNotFound();
    if (this.#secret !== undefined) {
      if (proof === undefined || !isProven(this.#secret, { sid, received, proof })) throw tunnelNotFound();
      if (proof.count <= this.#count)
        throw new TunnelError('REJOIN_INVALID', 'the resume request was replayed or is out of date');
    } else if (proof !== undefined) throw tunnelNotFound();
    if (!this.#isReplayable(received))
      throw new TunnelError('REJOIN_INVALID', 'the tunnel cannot be resumed from this position');
  }

  /** Attaches the carrier for an offer that was checked. Returns how many bytes are sent again. */
  resume(carrier: Carrier, offer: ResumeOffer): number {
    this.#count = offer.proof?.count ?? 0;
    // The old carrier can have brought newer acknowledgements in the meantime.
    const peerReceived = Math.max(offer.received, this.stream.acknowledged);
    const from = this.stream.received;
    carrier.send({ kind: 'joined', received: from, from: peerReceived });
    return this.stream.attach(carrier, { peerReceived, from });
  }

  /** Relay v4 has no means to skip bytes: there the position must not lie before one that was acknowledged. */
  #isReplayable(received: number): boolean {
    const isBehind = this.#secret !== undefined && received < this.stream.acknowledged;
    return this.stream.isValidAck(isBehind ? this.stream.acknowledged : received);
  }
}

export type { ResumableTunnel };

/** Compares the identity alone: groups can have changed. */
function isSame(one: TunnelOwner, other: TunnelOwner): boolean {
  return (
    one.issuer === other.issuer && one.subject === other.subject && one.keyThumbprint === other.keyThumbprint
  );
}

function tombstoneReason(error: Error): { readonly code: TunnelErrorCode; readonly message: string } {
  if (error instanceof TunnelEnded) return { code: error.code, message: error.message };
  return { code: 'TUNNEL_GONE', message: tunnelNotFound().message };
}
