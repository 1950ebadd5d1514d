import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { EndReason } from '../protocol/end-reason.ts';
import { TunnelError, toTunnelError } from '../protocol/errors.ts';
import { parseTarget } from '../protocol/target.ts';
import type { Authenticator, Principal } from './auth/authenticator.ts';
import { InvalidTokenError } from './auth/jwt/claims.ts';
import { startMinimumDelay } from './auth/minimum-delay.ts';
import type { MinimumDelay } from './auth/minimum-delay.ts';
import type { Revocations } from './auth/revocations.ts';
import type { Limits } from './config/config.ts';
import type { AddressCheck } from './dial/address-policy.ts';
import type { Dialer } from './dial/dialer.ts';
import type { TunnelLimiter } from './policy/limits.ts';
import type { Grant, Policy } from './policy/policy.ts';
import { abort } from '../stream/close.ts';
import { bridge } from '../stream/bridge.ts';
import type { BridgeEnd } from '../stream/bridge.ts';
import type { TunnelHandle, TunnelLocator } from './resume/tunnel-locator.ts';
import type { Offer, PendingRequest, ResumeOffer } from './session/offer.ts';
import type { Session, Sessions } from './session/sessions.ts';

/** What decides about offers. A reload puts a new one in its place; tunnels that are open keep theirs. */
export interface PipelineSettings {
  readonly authenticator: Authenticator;
  readonly policy: Policy;
  readonly dialer: Dialer;
  /** The network policy, for addresses that were dialled before it. */
  readonly evaluateAddress: AddressCheck;
  readonly limits: Limits;
}

/** What stays the same for the life of the process. */
export interface TunnelContext {
  readonly sessions: Sessions;
  /** The tunnels that a client may come back to. */
  readonly tunnels: TunnelLocator;
  readonly limiter: TunnelLimiter;
  readonly revocations: Pick<Revocations, 'isRevoked'>;
  readonly draining: () => boolean;
  /** How long a refusal takes at least whose reason is not for the caller to learn. */
  readonly minimumDelayMs: number;
}

const openingMs = 5000;

/**
 * The life of a tunnel: identify, authenticate, authorize, dial, accept, bridge, account. Never rejects; the offer is
 * answered and its session ended in every branch. Dial comes before accept, so that every refusal still has a status.
 */
export function openTunnel(offer: Offer, context: TunnelContext, pipeline: PipelineSettings): Promise<void> {
  const { sessionMs } = pipeline.limits;
  // In two steps, so that an open tunnel does not hold its offer: it may outlive the connection that asked for it.
  return establish(offer, context, pipeline).then((tunnel) => tunnel && runTunnel(tunnel, sessionMs));
}

/** A tunnel between its acceptance and its end. */
interface OpenTunnel {
  readonly session: Session;
  readonly client: Duplex;
  readonly target: Socket;
  /** What counts it no more. */
  readonly releases: readonly (() => void)[];
}

/** From the offer to the open tunnel; undefined when the offer was refused. */
async function establish(
  offer: Offer,
  { sessions, limiter: counts, revocations, draining, minimumDelayMs }: TunnelContext,
  pipeline: PipelineSettings,
): Promise<OpenTunnel | undefined> {
  const { limits } = pipeline;
  const session = sessions.begin(offer);
  const minimumDelay = startMinimumDelay(minimumDelayMs);
  const releases: (() => void)[] = [];
  let target: Socket | undefined;
  let accepted = false;
  try {
    if (draining()) throw new TunnelError('DRAINING', 'the gateway is stopping; try again');
    releases.push(counts.acquireForAddress(offer.remoteAddress, limits));
    const asked = parseTarget(offer.requested, 'required');
    const principal = await authenticate(offer, pipeline);
    session.identified(principal);
    // In one step with the line before: a revocation that comes from now on finds the session by its principal.
    if (revocations.isRevoked(principal)) throw revoked();
    const grant = pipeline.policy.decide(principal, asked);
    session.granted(grant);
    releases.push(counts.acquireForPrincipal(principal, limits));
    target = await dial(offer, grant, session, pipeline);
    await withinOpeningTime(offer, session);
    accepted = true;
    const client = await offer.accept();
    session.opened();
    return { session, client, target, releases };
  } catch (error) {
    if (target) abort(target);
    if (accepted) session.end('CLIENT_GONE');
    else await refuse(offer, error, { session, minimumDelay });
    for (const undo of releases) undo();
    return undefined;
  } finally {
    minimumDelay.drop();
  }
}

async function runTunnel(
  { session, client, target, releases }: OpenTunnel,
  sessionMs: number,
): Promise<void> {
  const how = await bridgeFor(sessionMs, session, () => bridge(client, target, session.signal));
  const lost = how === 'CLIENT_LOST' ? client.errored?.message : undefined;
  session.end(how, {
    bytesFromClient: target.bytesWritten,
    bytesFromTarget: target.bytesRead,
    ...(lost !== undefined && { reason: lost }),
  });
  for (const undo of releases) undo();
}

/**
 * The shorter life of a request to go on with a tunnel that is there, in this process or another one of the gateway:
 * authenticate, find the tunnel of this principal, authorize again, accept, attach. Nothing is dialled, and a gateway that
 * is stopping takes it too. Never rejects.
 */
export async function resumeTunnel(
  offer: ResumeOffer,
  { sessions, tunnels, limiter: counts, revocations, minimumDelayMs }: TunnelContext,
  pipeline: PipelineSettings,
): Promise<void> {
  const session = sessions.begin(offer);
  const minimumDelay = startMinimumDelay(minimumDelayMs);
  let release: (() => void) | undefined;
  let accepted = false;
  try {
    release = counts.acquireForResume(offer.remoteAddress, pipeline.limits);
    const principal = await authenticate(offer, pipeline);
    session.identified(principal);
    if (revocations.isRevoked(principal)) throw revoked();
    const tunnel = await tunnels.find(offer.sid, principal);
    session.signal.throwIfAborted();
    session.granted(reauthorize(tunnel, principal, pipeline));
    const resume = await tunnel.prepare(offer);
    accepted = true;
    await resume();
    session.end('RESUMED', { reason: `tunnel ${tunnel.sessionId}` });
  } catch (error) {
    if (!accepted) await refuse(offer, error, { session, minimumDelay });
    else if (offer.signal.aborted) session.end('CLIENT_GONE');
    else session.end(toTunnelError(error).code, { reason: reasonOf(toTunnelError(error)) });
  } finally {
    minimumDelay.drop();
    release?.();
  }
}

/** Answers no and ends the session. */
async function refuse(
  offer: PendingRequest,
  error: unknown,
  { session, minimumDelay }: { readonly session: Session; readonly minimumDelay: MinimumDelay },
): Promise<void> {
  if (offer.signal.aborted) return session.end('CLIENT_GONE');
  const refusal = session.signal.aborted
    ? refusalFor(session.signal.reason as EndReason)
    : toTunnelError(error);
  if (needsMinimumDelay(refusal)) await minimumDelay.over;
  offer.reject(refusal);
  session.end(refusal.code, { reason: reasonOf(refusal) });
}

/** Who may not reach the target any more does not keep the tunnel to it either. Throws `TARGET_DENIED`, `ADDRESS_DENIED`. */
function reauthorize(
  tunnel: TunnelHandle,
  principal: Principal,
  { policy, evaluateAddress: judgeAddress }: PipelineSettings,
): Grant {
  try {
    const grant = policy.decide(principal, tunnel.target);
    const { allowed, why } = judgeAddress(tunnel.address.host, tunnel.address.port);
    if (!allowed)
      throw new TunnelError('ADDRESS_DENIED', 'the network policy does not allow its address any more', {
        cause: new Error(why),
      });
    return grant;
  } catch (error) {
    tunnel.revoke();
    throw error;
  }
}

/** What was wrong with a token, and whether a target that is denied is one of the gateway's, is the same answer at the same time. */
function needsMinimumDelay({ code, facts }: TunnelError): boolean {
  return facts.status === 401 || code === 'TARGET_DENIED';
}

/** To the caller the same as any token that is not accepted. */
function revoked(): TunnelError {
  const cause = new InvalidTokenError('revoked');
  return new TunnelError('TOKEN_INVALID', 'the token was not accepted; sign in again', { cause });
}

/** What is said to an offer that the gateway ends before it has answered. */
function refusalFor(reason: EndReason): TunnelError {
  if (reason === 'REVOKED') return revoked();
  if (reason === 'KILLED') return new TunnelError('TUNNEL_KILLED', 'the operator has ended this session');
  return new TunnelError('DRAINING', 'the gateway is stopping; try again');
}

/** Throws what the authenticator throws, and `SIGN_IN_TIMEOUT` when it takes too long. */
async function authenticate(
  offer: PendingRequest,
  { authenticator, limits }: PipelineSettings,
): Promise<Principal> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new TunnelError('SIGN_IN_TIMEOUT', 'checking the token took too long; try again')),
    limits.preAuthMs,
  );
  const gone = (): void => late.reject(new Error('the client went away'));
  offer.signal.addEventListener('abort', gone, { once: true });
  try {
    return await Promise.race([authenticator.authenticate(offer.credentials), late.promise]);
  } finally {
    clearTimeout(timer);
    offer.signal.removeEventListener('abort', gone);
  }
}

/** A disk that neither takes the record nor says no is a disk that cannot be written. */
async function withinOpeningTime(offer: Offer, session: Session): Promise<void> {
  const late = Promise.withResolvers<never>();
  const giveUp = (): void =>
    late.reject(new TunnelError('AUDIT_UNAVAILABLE', 'the gateway cannot write its audit log'));
  const timer = setTimeout(giveUp, openingMs);
  offer.signal.addEventListener('abort', giveUp, { once: true });
  try {
    await Promise.race([session.opening(), late.promise]);
  } finally {
    clearTimeout(timer);
    offer.signal.removeEventListener('abort', giveUp);
  }
}

async function dial(
  offer: Offer,
  grant: Grant,
  session: Session,
  { dialer }: PipelineSettings,
): Promise<Socket> {
  const startedAt = performance.now();
  const target = await dialer.dial(grant, [offer.signal, session.signal]);
  session.dialled({ host: target.remoteAddress!, port: target.remotePort! }, performance.now() - startedAt);
  return target;
}

/** Bridges for at most `sessionMs`; what ended it early is told instead of `ENDED`. */
async function bridgeFor(
  sessionMs: number,
  session: Session,
  run: () => Promise<BridgeEnd>,
): Promise<BridgeEnd | EndReason> {
  const timer = setTimeout(() => session.abort('SESSION_EXPIRED'), sessionMs);
  timer.unref();
  try {
    const how = await run();
    return how === 'ENDED' ? (session.signal.reason as EndReason) : how;
  } finally {
    clearTimeout(timer);
  }
}

/** What lies behind a refusal, for the log and the audit. */
function reasonOf(error: TunnelError): string {
  const { cause } = error;
  return cause instanceof Error ? `${error.message}: ${cause.message}` : error.message;
}
