import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { onAbort } from '../../base/deadline.ts';
import type { TunnelError } from '../../protocol/errors.ts';
import { formatTarget } from '../../protocol/target.ts';
import type { Target } from '../../protocol/target.ts';
import { bridge } from '../../stream/bridge.ts';
import { abort, closeAfter } from '../../stream/close.ts';
import { TunnelEnded } from '../../stream/tunnel-ended.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { runHandshake } from './run-handshake.ts';
import type { DetectedProtocol } from './run-handshake.ts';
import { Refusal } from './handshake.ts';
import type { ConnectRequest } from './handshake.ts';
import type { LocalListenAddress } from './listen-address.ts';
import { detectProtocol } from './detect-protocol.ts';
import type { PeerUser } from './peer-user.ts';
import type { Password } from './password.ts';

/** Time limit of a handshake: programs send their request at once. */
const handshakeMs = 10_000;
/** Delay after each wrong password, against guessing. */
const wrongPasswordMs = 1000;

/** The context of all connections of a listener. */
export interface ListenerContext {
  readonly password: Password | undefined;
  /** Absent: programs of other users are accepted. */
  readonly peerUser: PeerUser | undefined;
  /** Opens a tunnel; the signal aborts when the program closes the connection. The caller owns the stream. */
  readonly open: (target: Target, signal: AbortSignal) => Promise<Duplex>;
  /** Called with each failure that people should see. */
  readonly onFailure: (error: TunnelError, target?: Target) => void;
  /** Aborted when the listener ends. */
  readonly signal: AbortSignal;
}

/**
 * Serves a connection to its end: owner check, handshake, tunnel, bytes in both directions. Takes ownership of the
 * socket. Never rejects.
 */
export async function serveConnection(
  socket: Socket,
  address: LocalListenAddress,
  context: ListenerContext,
): Promise<void> {
  const { signal, onFailure } = context;
  const removeListener = onAbort(signal, () => abort(socket));
  let target: Target | undefined;
  try {
    await checkPeerUser(socket, address, context);
    const detected = await receiveRequest(socket, address, context);
    if (detected === undefined) return void socket.destroy();
    ({ target } = detected.result);
    const tunnel = await openFor(socket, detected.result, context);
    removeListener();
    if (tunnel !== undefined) await bridgeTunnel(socket, tunnel, detected, context);
  } catch (cause) {
    const refusal = cause instanceof Refusal ? cause : new Refusal(toFailure(cause));
    onFailure(refusal.error, target);
    await reject(socket, refusal, signal);
  } finally {
    removeListener();
  }
}

async function checkPeerUser(
  socket: Socket,
  { at }: LocalListenAddress,
  { peerUser }: ListenerContext,
): Promise<void> {
  // The mode of a unix socket keeps other users out.
  if (peerUser === undefined || at.kind === 'unix') return;
  if ((await peerUser.ownerOf(socket)) !== 'other' || socket.closed) return;
  throw new Refusal(new ClientError('LISTENER_DENIED', 'a program of another user tried to connect'));
}

async function receiveRequest(
  socket: Socket,
  { forward }: LocalListenAddress,
  { password }: ListenerContext,
): Promise<DetectedProtocol<ConnectRequest> | undefined> {
  if (forward === undefined) return runHandshake(socket, detectProtocol(password), handshakeMs);
  const nothing = Buffer.alloc(0);
  const result = { protocol: 'forward', target: forward, granted: nothing, refused: () => nothing };
  return { result, early: nothing };
}

/** Opens the tunnel. Undefined when the program has closed the connection in the meantime. Throws `Refusal`. */
async function openFor(
  socket: Socket,
  request: ConnectRequest,
  context: ListenerContext,
): Promise<Duplex | undefined> {
  const closed = new AbortController();
  const onClose = (): void => closed.abort();
  socket.once('close', onClose);
  if (socket.closed) return undefined;
  try {
    const tunnel = await context.open(request.target, closed.signal);
    if (!closed.signal.aborted) return tunnel;
    tunnel.on('error', () => {}).destroy();
    return undefined;
  } catch (cause) {
    if (closed.signal.aborted) return undefined;
    const error = toFailure(cause);
    throw new Refusal(error, request.refused(error));
  } finally {
    socket.off('close', onClose);
  }
}

/** Copies in both directions until both have ended, and reports why when the tunnel breaks. */
async function bridgeTunnel(
  socket: Socket,
  tunnel: Duplex,
  { result: { granted, target }, early }: DetectedProtocol<ConnectRequest>,
  { signal, onFailure }: ListenerContext,
): Promise<void> {
  let cause: Error | undefined;
  tunnel.once('error', (error) => (cause = error));
  socket.write(granted);
  if (early.length > 0) tunnel.write(early);
  const bridged = bridge(socket, tunnel, signal);
  // It was paused after the handshake.
  socket.resume();
  const end = await bridged;
  if (end === 'TARGET_LOST') onFailure(lostTunnelError(cause, target), target);
}

/** The error for an open tunnel that broke. */
function lostTunnelError(cause: Error | undefined, target: Target): TunnelError {
  if (cause instanceof ClientError) return cause;
  if (cause instanceof TunnelEnded) return new ClientError(cause.code, cause.message, { cause });
  return new ClientError(
    'TUNNEL_LOST',
    `the connection for ${formatTarget(target)} was cut while the tunnel was open`,
    {
      cause,
    },
  );
}

async function reject(socket: Socket, { answer, isGuess }: Refusal, signal: AbortSignal): Promise<void> {
  if (answer === undefined || answer.length === 0) return abort(socket);
  if (isGuess) await delay(wrongPasswordMs, undefined, { signal }).catch(() => {});
  closeAfter(socket, answer);
}
