import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { entryNames } from './entry.ts';
import { isTransportFailure } from '../http/refusal.ts';
import type { ClientEntry, EntryName, TunnelRequest } from './entry.ts';
import type { EntryCache } from './entry-cache.ts';

/** Loads an entry by name. Loading costs time, so only entries that are tried are loaded. */
export type LoadEntry = (name: EntryName) => Promise<ClientEntry>;

/** How `openTunnel` chooses among the entries. */
export interface Choice {
  readonly load: LoadEntry;
  /** The only entry to try. */
  readonly via?: EntryName;
  readonly memory: EntryCache;
  readonly signal: AbortSignal;
}

/** Imports an entry when it is needed. */
export const loadEntry: LoadEntry = async (name) => {
  if (name === 'relay') return (await import('./resumable.ts')).relay;
  if (name === 'websocket') return (await import('./websocket.ts')).websocket;
  if (name === 'connect-tcp') return (await import('./connect-tcp.ts')).connectTcp;
  if (name === 'connect') return (await import('./connect.ts')).connect;
  return (await import('./resumable.ts')).http;
};

/**
 * Opens the tunnel by the entry that worked last in this network, else in the usual order. Continues with the next entry
 * only when an intermediary did not pass the request: another entry changes neither the credential, nor the target, nor
 * the route. When none succeeds, the first failure in the usual order is thrown, naming those tried.
 */
export async function openTunnel(request: TunnelRequest, egress: Egress, choice: Choice): Promise<Duplex> {
  const { load, via, memory, signal } = choice;
  const failures = new Map<EntryName, TunnelError>();
  const isBound = request.createProof !== undefined;
  let noUpgradePasses = false;
  for (const name of via === undefined ? order(memory.recall(request.gateway), isBound) : [via]) {
    if (noUpgradePasses && upgrades.has(name)) continue;
    let startedAt = performance.now();
    try {
      const entry = await load(name);
      // A busy machine can take seconds to load it, which says nothing about the request.
      startedAt = performance.now();
      const tunnel = await entry.open({ ...request, isPinned: via !== undefined }, egress, signal);
      if (via === undefined) memory.keep(request.gateway, name);
      return tunnel;
    } catch (error) {
      const failure = toFailure(error);
      if (via !== undefined || !isTransportFailure(failure)) throw failure;
      failures.set(name, failure);
      noUpgradePasses ||= failure.code === 'UPGRADE_REQUIRED' || performance.now() - startedAt > swallowedMs;
    }
  }
  throw firstFailure(failures, isBound);
}

/** The entries that need `Upgrade`. The gateway reports when an intermediary has removed that from a request. */
const upgrades: ReadonlySet<EntryName> = new Set(['relay', 'websocket', 'connect-tcp']);

/** Longer than the gateway takes for an answer: an intermediary has swallowed the request, and would swallow the next upgrade too. */
const swallowedMs = 12_000;

/** CONNECT cannot carry the proof of a bound token, so it is not even tried with one. */
function order(recalled: EntryName | undefined, isBound: boolean): EntryName[] {
  const usable = entryNames.filter((name) => !isBound || name !== 'connect');
  const first = usable.filter((name) => name === recalled);
  return [...first, ...usable.filter((name) => name !== recalled)];
}

function firstFailure(failures: ReadonlyMap<EntryName, TunnelError>, isBound: boolean): ClientError {
  const first = entryNames.map((name) => failures.get(name)).find((failure) => failure !== undefined)!;
  const rest = isBound ? '; connect is for tokens and tickets only' : '';
  return new ClientError(first.code, `${first.message} (tried ${[...failures.keys()].join(', ')}${rest})`, {
    cause: first,
    ...(first instanceof ClientError && first.requestId !== undefined ? { requestId: first.requestId } : {}),
    ...(first instanceof ClientError && first.hint !== undefined ? { hint: first.hint } : {}),
  });
}
