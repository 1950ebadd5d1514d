import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
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
import type { ListenAddress } from './listen-address.ts';
import { detectProtocol } from './detect-protocol.ts';
import type { PeerUser } from './peer-user.ts';
import type { Password } from './password.ts';

/** A program says at once what it wants. */
const sayMs = 10_000;
/** Who guesses passwords waits for each. */
const wrongPasswordMs = 1000;

/** What all connections of a listener have in common. */
export interface ListenerContext {
  readonly password: Password | undefined;
  /** Absent: programs of other users may come in. */
  readonly neighbours: PeerUser | undefined;
  /** Opens a tunnel; the signal is aborted when the program has gone. The caller owns the stream. */
  readonly open: (target: Target, signal: AbortSignal) => Promise<Duplex>;
  /** Told of everything that people should know. */
  readonly onFailure: (error: TunnelError, target?: Target) => void;
  /** Aborted when the listener ends. */
  readonly signal: AbortSignal;
}

/**
 * The life of a connection: who comes in, what is asked for, the tunnel, bytes both ways. Takes the socket over. Never
 * rejects.
 */
export async function serve(socket: Socket, door: ListenAddress, house: ListenerContext): Promise<void> {
  const { signal, onFailure } = house;
  const stop = (): void => abort(socket);
  signal.addEventListener('abort', stop, { once: true });
  let target: Target | undefined;
  try {
    await checkNeighbour(socket, door, house);
    const heard = await whatIsAsked(socket, door, house);
    if (heard === undefined) return void socket.destroy();
    ({ target } = heard.result);
    const tunnel = await openFor(socket, heard.result, house);
    signal.removeEventListener('abort', stop);
    if (tunnel !== undefined) await carry(socket, tunnel, heard, house);
  } catch (cause) {
    const refusal = cause instanceof Refusal ? cause : new Refusal(toFailure(cause));
    onFailure(refusal.error, target);
    await refuse(socket, refusal, signal);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

async function checkNeighbour(socket: Socket, { at }: ListenAddress, { neighbours }: ListenerContext): Promise<void> {
  // A unix socket lets nobody else in by itself.
  if (neighbours === undefined || at.kind === 'unix') return;
  if ((await neighbours.ownerOf(socket)) !== 'other' || socket.closed) return;
  throw new Refusal(new ClientError('LISTENER_DENIED', 'a program of another user wanted to come in'));
}

async function whatIsAsked(
  socket: Socket,
  { forward }: ListenAddress,
  { password }: ListenerContext,
): Promise<DetectedProtocol<ConnectRequest> | undefined> {
  if (forward === undefined) return runHandshake(socket, detectProtocol(password), sayMs);
  const nothing = Buffer.alloc(0);
  const result = { protocol: 'forward', target: forward, granted: nothing, refused: () => nothing };
  return { result, early: nothing };
}

/** Undefined when the program has gone in the meantime. Throws `Refusal`. */
async function openFor(socket: Socket, asked: ConnectRequest, house: ListenerContext): Promise<Duplex | undefined> {
  const gone = new AbortController();
  const leave = (): void => gone.abort();
  socket.once('close', leave);
  if (socket.closed) return undefined;
  try {
    const tunnel = await house.open(asked.target, gone.signal);
    if (!gone.signal.aborted) return tunnel;
    tunnel.on('error', () => {}).destroy();
    return undefined;
  } catch (cause) {
    if (gone.signal.aborted) return undefined;
    const error = toFailure(cause);
    throw new Refusal(error, asked.refused(error));
  } finally {
    socket.off('close', leave);
  }
}

/** Copies both ways until both have ended, and tells why when the tunnel breaks. */
async function carry(
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
  // It was stopped after what it had asked for.
  socket.resume();
  const end = await bridged;
  if (end === 'TARGET_LOST') onFailure(lossOf(cause, target), target);
}

/** Why a tunnel broke that was open. */
function lossOf(cause: Error | undefined, target: Target): TunnelError {
  if (cause instanceof ClientError) return cause;
  if (cause instanceof TunnelEnded) return new ClientError(cause.code, cause.message, { cause });
  return new ClientError('TUNNEL_LOST', `the connection for ${formatTarget(target)} was cut before its end`, {
    cause,
  });
}

async function refuse(socket: Socket, { answer, isGuess }: Refusal, signal: AbortSignal): Promise<void> {
  if (answer === undefined || answer.length === 0) return abort(socket);
  if (isGuess) await delay(wrongPasswordMs, undefined, { signal }).catch(() => {});
  closeAfter(socket, answer);
}
