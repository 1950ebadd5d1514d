import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { withDeadline } from '../base/deadline.ts';
import type { WorkPacer } from '../base/work-pacer.ts';
import type { EndReason } from '../protocol/end-reason.ts';
import { TunnelError, toTunnelError } from '../protocol/errors.ts';
import { parseTarget } from '../protocol/target.ts';
import { bridge } from '../stream/bridge.ts';
import type { BridgeEnd } from '../stream/bridge.ts';
import { abort } from '../stream/close.ts';
import type { Authenticator, Principal } from './auth/authenticator.ts';
import { startMinimumDelay } from './auth/minimum-delay.ts';
import type { Revocations } from './auth/revocations.ts';
import { refuseRevoked } from './auth/token-refusal.ts';
import type { Limits } from './config/config.ts';
import type { AddressCheck } from './dial/address-policy.ts';
import type { Dialer, TargetStream } from './dial/dialer.ts';
import { customerNetwork } from './net/cidr.ts';
import { ownerName } from './policy/limits.ts';
import type { TunnelCount, TunnelLimiter } from './policy/limits.ts';
import type { Grant, Policy } from './policy/policy.ts';
import type { TunnelHandle, TunnelLocator } from './resume/tunnel-locator.ts';
import type { Offer, PendingRequest, ResumeOffer } from './session/offer.ts';
import { endForClient } from './session/end-words.ts';
import { drainingError, reasonOf, refuseOffer } from './session/refuse-offer.ts';
import type { Session, Sessions } from './session/sessions.ts';

/** The parts that decide about offers. A reload replaces them; open tunnels keep theirs. */
export interface PipelineSettings {
  readonly authenticator: Authenticator;
  readonly policy: Policy;
  readonly dialer: Dialer;
  /** The network policy, for addresses that were dialled before it. */
  readonly evaluateAddress: AddressCheck;
  readonly limits: Limits;
}

/** The parts that stay the same for the life of the process. */
export interface TunnelContext {
  readonly sessions: Sessions;
  /** The tunnels that a client can resume. */
  readonly tunnels: TunnelLocator;
  readonly limiter: TunnelLimiter;
  readonly revocations: Pick<Revocations, 'isRevoked'>;
  readonly draining: () => boolean;
  /** The work that offers are is divided among turns of the event loop. */
  readonly pacer: WorkPacer;
  /** Minimum duration of refusals whose reason must not leak. */
  readonly minimumDelayMs: number;
}

const openingMs = 5000;

/**
 * The life of a tunnel: identify, authenticate, authorize, dial, accept, bridge, account. Never rejects; the offer is
 * answered and its session ended in every branch. Dial comes before accept, so that every refusal still has a status.
 */
export function openTunnel(offer: Offer, context: TunnelContext, settings: PipelineSettings): Promise<void> {
  const { sessionMs } = settings.limits;
  // In two steps, so that an open tunnel does not hold its offer: it can outlive the connection that the offer came on.
  return establish(offer, context, settings).then((tunnel) => tunnel && runTunnel(tunnel, sessionMs));
}

/** A tunnel between its acceptance and its end. */
interface OpenTunnel {
  readonly session: Session;
  readonly client: Duplex;
  readonly target: TargetStream;
  /** What it counts for, until it has ended. */
  readonly count: TunnelCount;
}

/** From the offer to the open tunnel; resolves to undefined when the offer was refused. */
async function establish(
  offer: Offer,
  { sessions, limiter, revocations, draining, pacer, minimumDelayMs }: TunnelContext,
  settings: PipelineSettings,
): Promise<OpenTunnel | undefined> {
  const { authenticator, policy, limits } = settings;
  const session = sessions.begin(offer);
  const holder = customerNetwork(offer.remoteAddress);
  const minimumDelay = startMinimumDelay(minimumDelayMs);
  let count: TunnelCount | undefined;
  let target: TargetStream | undefined;
  let accepted = false;
  try {
    if (draining()) throw drainingError();
    count = limiter.countOffer(offer.remoteAddress, limits);
    session.countedBy(count);
    const requested = parseTarget(offer.requested, 'required');
    await pacer.take('open', holder, offer.signal);
    const principal = await authenticate(offer, settings);
    await pacer.take('begun', holder, offer.signal);
    session.identified(principal);
    // Synchronously after the line before: every later revocation finds the session by its principal.
    refuseRevoked(principal, revocations);
    const grant = policy.decide(principal, requested);
    session.granted(grant);
    await count.addPrincipal(principal, offer.signal);
    count.addTarget(grant.target);
    session.signal.throwIfAborted();
    offer.allowed?.();
    target = await dial(offer, grant, session, settings);
    await recordOpening(offer, session);
    accepted = true;
    await pacer.take('begun', holder, offer.signal);
    const client = await offer.accept();
    session.opened();
    return { session, client, target, count };
  } catch (error) {
    if (target) abandon(target);
    if (accepted) session.end('CLIENT_GONE');
    else await refuseOffer(offer, error, { session, minimumDelay, challenge: authenticator.challenge });
    count?.release();
    return undefined;
  } finally {
    minimumDelay.drop();
  }
}

/** Copies bytes until the tunnel ends, for at most `sessionMs`, and accounts for them. */
async function runTunnel({ session, client, target, count }: OpenTunnel, sessionMs: number): Promise<void> {
  const end = await bridgeFor(sessionMs, session, () =>
    bridge(client, target, session.signal, (reason) => endForClient(reason, session.why)),
  );
  const lost = end === 'CLIENT_LOST' ? client.errored?.message : undefined;
  session.end(end, {
    bytesFromClient: target.bytesWritten,
    bytesFromTarget: target.bytesRead,
    ...(lost !== undefined && { reason: lost }),
  });
  count.release();
}

/**
 * The shorter life of a request to resume a tunnel of this process or of another one of the gateway: authenticate, find
 * the tunnel of this principal, authorize again, accept, attach. Nothing is dialled, and a gateway that is stopping accepts
 * it too. Never rejects.
 */
export async function resumeTunnel(
  offer: ResumeOffer,
  { sessions, tunnels, limiter, revocations, pacer, minimumDelayMs }: TunnelContext,
  settings: PipelineSettings,
): Promise<void> {
  const { challenge } = settings.authenticator;
  const session = sessions.begin(offer);
  const holder = customerNetwork(offer.remoteAddress);
  const minimumDelay = startMinimumDelay(minimumDelayMs);
  let release: (() => void) | undefined;
  let accepted = false;
  try {
    release = limiter.acquireForResume(offer.remoteAddress, settings.limits);
    await pacer.take('resume', holder, offer.signal);
    const principal = await authenticate(offer, settings);
    await pacer.take('begun', holder, offer.signal);
    session.identified(principal);
    refuseRevoked(principal, revocations);
    const tunnel = await tunnels.find(offer.sid, principal);
    session.signal.throwIfAborted();
    session.granted(reauthorize(tunnel, principal, settings));
    const resume = await tunnel.prepare(offer);
    accepted = true;
    await resume();
    session.end('RESUMED', { reason: `tunnel ${tunnel.sessionId}` });
  } catch (error) {
    if (!accepted) await refuseOffer(offer, error, { session, minimumDelay, challenge });
    else if (offer.signal.aborted) session.end('CLIENT_GONE');
    else session.end(toTunnelError(error).code, { reason: reasonOf(toTunnelError(error)) });
  } finally {
    minimumDelay.drop();
    release?.();
  }
}

/**
 * A principal that is no longer allowed to reach the target loses the tunnel to it too. Throws `TARGET_DENIED`,
 * `ADDRESS_DENIED`.
 */
function reauthorize(
  tunnel: TunnelHandle,
  principal: Principal,
  { policy, evaluateAddress }: PipelineSettings,
): Grant {
  try {
    const grant = policy.decide(principal, tunnel.target);
    const { allowed, why } = evaluateAddress(tunnel.address.host, tunnel.address.port);
    if (!allowed)
      throw new TunnelError('ADDRESS_DENIED', "the network policy no longer allows the target's address", {
        cause: new Error(why),
      });
    return grant;
  } catch (error) {
    tunnel.revoke();
    throw error;
  }
}

/** Rejects with what the authenticator rejects with, and with `SIGN_IN_TIMEOUT` when it takes too long. */
function authenticate(
  { credentials, peer, signal }: PendingRequest,
  { authenticator, limits }: PipelineSettings,
): Promise<Principal> {
  return withDeadline(signal, limits.preAuthMs, () => authenticator.authenticate(credentials, { peer }), {
    onTimeout: () => new TunnelError('SIGN_IN_TIMEOUT', 'checking the token took too long; try again'),
    onAborted: () => new Error('the client has left'),
  });
}

/** A disk that neither takes the record nor fails counts as one that cannot be written: rejects with `AUDIT_UNAVAILABLE`. */
function recordOpening({ signal }: Offer, session: Session): Promise<void> {
  return withDeadline(signal, openingMs, () => session.opening(), {
    onTimeout: () => new TunnelError('AUDIT_UNAVAILABLE', 'the gateway cannot write its audit log'),
  });
}

/** A target that never got a tunnel sees a reset, which it can tell from an orderly end. */
function abandon(target: TargetStream): void {
  if (target instanceof Socket) abort(target);
  else target.destroy();
}

async function dial(
  { signal }: Offer,
  grant: Grant,
  session: Session,
  { dialer }: PipelineSettings,
): Promise<TargetStream> {
  const startedAt = performance.now();
  const { principal } = session.record;
  const caller = principal && ownerName(principal);
  try {
    const target = await dialer.dial(grant, [signal, session.signal], caller);
    session.dialled({ host: target.remoteAddress!, port: target.remotePort! }, performance.now() - startedAt);
    return target;
  } catch (error) {
    const ended = session.signal.aborted ? (session.signal.reason as EndReason) : undefined;
    const code = signal.aborted ? 'CLIENT_GONE' : (ended ?? toTunnelError(error).code);
    session.notDialled(code, performance.now() - startedAt);
    throw error;
  }
}

/** Bridges for at most `sessionMs`; a reason to end early is given instead of `ENDED`. */
async function bridgeFor(
  sessionMs: number,
  session: Session,
  run: () => Promise<BridgeEnd>,
): Promise<BridgeEnd | EndReason> {
  const timer = setTimeout(() => session.abort('SESSION_EXPIRED'), sessionMs);
  timer.unref();
  try {
    const end = await run();
    return end === 'ENDED' ? (session.signal.reason as EndReason) : end;
  } finally {
    clearTimeout(timer);
  }
}
