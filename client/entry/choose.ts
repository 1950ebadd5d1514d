import type { Duplex } from 'node:stream';
import type { TunnelError } from '../../protocol/errors.ts';
import type { Egress } from '../egress/egress.ts';
import { ClientError, toFailure } from '../errors/failure.ts';
import { entryFacts, entryNames } from '../../protocol/entries.ts';
import type { EntryName } from '../../protocol/entries.ts';
import { isTransportFailure } from '../http/refusal.ts';
import type { ClientEntry, TunnelRequest } from './entry.ts';
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

const loaders: Readonly<Record<EntryName, () => Promise<ClientEntry>>> = {
  relay: async () => (await import('./resumable.ts')).relay,
  websocket: async () => (await import('./websocket.ts')).websocket,
  'connect-tcp': async () => (await import('./connect-tcp.ts')).connectTcp,
  connect: async () => (await import('./connect.ts')).connect,
  http: async () => (await import('./resumable.ts')).http,
};

/** Imports an entry when it is needed. */
export const loadEntry: LoadEntry = (name) => loaders[name]();

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
    if (noUpgradePasses && entryFacts(name).upgrade !== undefined) continue;
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

/** Longer than the gateway takes for an answer: an intermediary has swallowed the request, and would swallow the next upgrade too. */
const swallowedMs = 12_000;

/** The entries to try: with a bound token, only those that can carry its proof. */
function order(recalled: EntryName | undefined, isBound: boolean): EntryName[] {
  const usable = entryNames.filter((name) => !isBound || entryFacts(name).carriesProof);
  const first = usable.filter((name) => name === recalled);
  return [...first, ...usable.filter((name) => name !== recalled)];
}

function firstFailure(failures: ReadonlyMap<EntryName, TunnelError>, isBound: boolean): ClientError {
  const first = entryNames.map((name) => failures.get(name)).find((failure) => failure !== undefined)!;
  const unusable = entryNames.filter((name) => !entryFacts(name).carriesProof).join(', ');
  const rest = isBound ? `; ${unusable} is for tokens and tickets only` : '';
  return new ClientError(first.code, `${first.message} (tried ${[...failures.keys()].join(', ')}${rest})`, {
    cause: first,
    ...(first instanceof ClientError && first.requestId !== undefined ? { requestId: first.requestId } : {}),
    ...(first instanceof ClientError && first.hint !== undefined ? { hint: first.hint } : {}),
  });
}
